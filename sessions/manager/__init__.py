"""All open sessions: found, created, ended, and resumed after a restart of the service."""
