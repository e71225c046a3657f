"""The error of a container that cannot be used again."""


class NotClean(Exception):
    """The container is not in its first state, or that is uncertain; the message says why."""
