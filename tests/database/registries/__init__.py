"""Tests of the registry and its migrations."""
