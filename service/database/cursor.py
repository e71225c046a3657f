"""Where the next page of a list begins; callers should see nothing in it."""

import base64
import math
import uuid

from service.database.errors import InvalidCursor


def make_cursor(created_at: float, identifier: str) -> str:
    """The cursor of the page after the thing with that time and that UUID."""
    text = f"{created_at!r} {identifier}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, uuid.UUID]:
    """The time and the id that a cursor was made of. Raises ``InvalidCursor``."""
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
