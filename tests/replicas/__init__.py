"""Tests of several services that share a database, an object storage and an engine."""
