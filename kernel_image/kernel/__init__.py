"""The zygote, and the IPython kernels that are forked from it."""
