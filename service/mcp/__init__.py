"""The Model Context Protocol at ``/mcp``: the service's sessions as tools of a language model.

``endpoint`` is all that the service imports at its start; the rest, and the protocol's SDK with it,
is imported by the first request.
"""
