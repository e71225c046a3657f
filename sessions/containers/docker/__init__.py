"""Containers on a Docker engine. The only folder that imports `docker`."""
