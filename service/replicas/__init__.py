"""Several services that share one registry."""
