"""What runs inside a kernel container: supervisor (PID 1), zygote, kernel, workspace, lockdown."""
