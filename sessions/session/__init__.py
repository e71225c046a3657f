"""One open session: its kernel, its lock, and the code that runs in it."""
