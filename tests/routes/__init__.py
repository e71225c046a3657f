"""Tests of the routes of the REST API."""
