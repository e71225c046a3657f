"""The HTTP service: wire schemas, routes, settings, registry and file bytes.

It is the only layer that knows status codes, SQL and the environment. It imports ``sessions``;
nothing imports it.
"""

__version__ = "0.5.0"
