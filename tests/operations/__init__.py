"""Tests of the commands of the service, and of its documentation."""
