"""Pages of a list: how many rows are in one, and cursors, opaque texts that say where the next one begins."""

import base64
import math
import uuid
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from service.database.errors import InvalidCursor

PAGE_BYTES: Final = 4 << 20
"""Texts of the rows of a page together, unless its only row is larger."""


def rows_in_page(sizes: Sequence[int], limit: int) -> int:
    """Return how many of the next rows are in a page: at most ``limit``, and `PAGE_BYTES`, but at least one.

    ``sizes`` are the bytes of the rows.
    """
    return min(max(1, sum(total <= PAGE_BYTES for total in accumulate(sizes))), limit, len(sizes))


def make_cursor(created_at: float, identifier: str) -> str:
    """Return the cursor of the page after the row with this time (seconds since the epoch) and UUID."""
    text = f"{created_at!r} {identifier}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, uuid.UUID]:
    """Return the time and the UUID that a cursor contains. Raises ``InvalidCursor``."""
    try:
        padding = "=" * (-len(cursor) % 4)
        text = base64.b64decode(cursor + padding, altchars="-_", validate=True).decode("ascii")
        created_at, identifier = text.split(" ")
        position = (float(created_at), uuid.UUID(identifier))
    except ValueError:
        raise InvalidCursor(cursor) from None
    if not math.isfinite(position[0]):
        raise InvalidCursor(cursor)
    return position
