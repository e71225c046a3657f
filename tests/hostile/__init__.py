"""Code, callers and containers that mean harm, each followed by the canary of `conftest`."""
