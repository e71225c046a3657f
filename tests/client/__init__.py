"""The Python client and its command line, against real services."""
