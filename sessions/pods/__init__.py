"""Kernels on Kubernetes: `sessions.engine.Engine` with a pod for each container."""
