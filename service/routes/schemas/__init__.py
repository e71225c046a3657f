"""The wire schemas of the REST API."""
