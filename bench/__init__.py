"""Benchmarks: speed and memory of the service, compared with `docker run`: `python -m bench`."""
