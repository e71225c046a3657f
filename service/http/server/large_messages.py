"""Which WebSockets may send a large message now: a few in the whole service, and fewer of one owner.

The data of an unfinished message is kept, so the number of unfinished large messages is limited. A client
that has to wait is not read from. A client that was admitted has room for the rest of its message.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

_IN_ALL: Final = 3
_OF_OWNER: Final = 2


class LargeMessages:
    """Admits connections in order of arrival."""

    def __init__(self) -> None:
        self._owners: Counter[str] = Counter()
        self._waiting: deque[Admission] = deque()

    def ask(self, owner: str, on_admitted: Callable[[], None]) -> "Admission":
        """Ask for one message of this owner; `on_admitted` is called at once or later."""
        admission = Admission(self, owner, on_admitted)
        self._waiting.append(admission)
        self._admit()
        return admission

    def _admit(self) -> None:
        for admission in tuple(self._waiting):
            if self._owners.total() >= _IN_ALL:
                return
            if self._owners[admission.owner] < _OF_OWNER:
                self._waiting.remove(admission)
                self._owners[admission.owner] += 1
                admission.is_admitted = True
                admission.on_admitted()

    def release(self, admission: "Admission") -> None:
        """End an admission, or the wait for it."""
        if admission.is_admitted:
            self._owners[admission.owner] -= 1
            self._admit()
        else:
            self._waiting.remove(admission)


class Admission:
    """The right to send one large message, or the wait for it."""

    def __init__(self, messages: LargeMessages, owner: str, on_admitted: Callable[[], None]) -> None:
        self.owner = owner
        self.on_admitted = on_admitted
        self.is_admitted = False
        self._messages = messages

    def release(self) -> None:
        """End the right, or the wait. Called once."""
        self._messages.release(self)
