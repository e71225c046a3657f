"""Code the tests send to a kernel. Each file prints what it found out there as one line of JSON."""
