"""Kernels: messages, channels, outputs, and the HTTP client of the supervisor."""
