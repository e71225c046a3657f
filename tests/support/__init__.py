"""Support for tests: the service as a process, clients of its API, engines, clusters and databases."""
