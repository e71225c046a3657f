"""Opens the parts of the service in order at its start, and closes them in reverse order at its end."""

from service.lifespan.lifespan import lifespan

__all__ = ["lifespan"]
