"""What user code may do: network rules, capabilities, system calls, and the probe that tries them."""
