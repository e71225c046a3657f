"""Tests of API keys and their limits."""
