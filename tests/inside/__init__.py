"""Code that tests run in a kernel. Each file prints its findings as one line of JSON."""
