"""Operation of the service: opening the engine, self-test, readiness, housekeeping and backups."""
