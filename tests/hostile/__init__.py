"""Attacks by user code, callers and containers. The canary of `conftest` checks the service after each."""
