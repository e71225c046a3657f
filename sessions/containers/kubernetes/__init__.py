"""Kernels as pods: the same seam on a Kubernetes cluster."""
