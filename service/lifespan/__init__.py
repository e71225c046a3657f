"""The wiring: what the service opens at its start, in order, and closes in reverse."""

from service.lifespan.lifespan import lifespan

__all__ = ["lifespan"]
