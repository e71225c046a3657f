"""Limits on user code: the firewall, privileges, system calls, and the probe that tries to break out."""
