"""The error of a container that cannot be used again."""

from typing import Final

_DETAIL_CHARACTERS: Final = 200


class NotClean(Exception):
    """The container is not in its first state, or that is uncertain.

    Attributes:
        fact: what is not as it was, in words of this package; the service logs it.
    """

    def __init__(self, fact: str, detail: object = "") -> None:
        """``detail`` is for the message alone, because it may contain names that user code chose."""
        shown = str(detail)[:_DETAIL_CHARACTERS]
        super().__init__(f"{fact}: {shown}" if shown else fact)
        self.fact = fact
