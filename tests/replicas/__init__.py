"""Several services on one database, one object storage and one engine."""
