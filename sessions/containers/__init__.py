"""Containers: engines, images, launching and removing, sandboxes, and the pool."""
