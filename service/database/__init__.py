"""The registry: tables, queries and migrations."""
