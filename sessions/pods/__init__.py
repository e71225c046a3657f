"""Kernels on Kubernetes: `sessions.containers.engine.Engine` with a pod for each container."""
