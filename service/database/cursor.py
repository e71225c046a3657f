"""Cursors: opaque texts that say where the next page of a list begins."""

import base64
import math
import uuid

from service.database.errors import InvalidCursor


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
