"""Operation of the service: the engine, readiness, housekeeping, backups."""
