"""The code inside a kernel container: the supervisor (PID 1), the zygote, kernels, and their confinement."""
