"""The Model Context Protocol, tested with real clients."""
