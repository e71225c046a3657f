"""What an operator deals with: the engine, readiness, housekeeping, backups."""
