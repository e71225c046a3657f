"""Containers: the seam to an engine, Docker behind it, and the pool of ready kernels."""
