"""Tests of the service in a container, in each of the ways that README.md describes."""
