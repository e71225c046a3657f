"""Speed and memory of the service, beside `docker run` on the same engine: `python -m bench`."""
