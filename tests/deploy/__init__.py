"""The service in a container, in each of the ways that README.md tells of."""
