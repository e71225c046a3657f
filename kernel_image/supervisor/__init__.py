"""PID 1 of a kernel container: it starts and ends kernels, and serves files. It never runs user code."""
