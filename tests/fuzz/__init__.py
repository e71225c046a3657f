"""Tests with generated requests and names, against the OpenAPI document and a real service."""
