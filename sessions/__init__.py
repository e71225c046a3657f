"""Containers, pool, kernels, outputs. Knows no HTTP of the service, no SQL and no environment."""
