"""The Model Context Protocol at ``/mcp``: sessions of the service as tools of a language model.

At its start the service imports only ``endpoint``. The first request imports the other modules and the
protocol's SDK, which take half a second.
"""
