"""Requests and names nobody thought of: the OpenAPI document held against a real service."""
