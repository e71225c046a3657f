"""What a client may rely on in a message that a kernel publishes. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from service.gateway import wire
from sessions.models import KernelMessage

_BUNDLE: Final = {"data": dict, "metadata": dict}
_SHAPES: Final[Mapping[str, Mapping[str, type]]] = {
    "status": {"execution_state": str},
    "execute_input": {"code": str, "execution_count": int},
    "execute_result": {**_BUNDLE, "execution_count": int},
    "display_data": _BUNDLE,
    "update_display_data": {**_BUNDLE, "transient": dict},
    "clear_output": {"wait": bool},
    "stream": {"name": str, "text": str},
    "error": {"ename": str, "evalue": str, "traceback": list},
    "comm_open": {"comm_id": str, "target_name": str, "data": dict},
    "comm_msg": {"comm_id": str, "data": dict},
    "comm_close": {"comm_id": str},
}
"""Fields that there have to be, and their types. Messages of other kinds are not published."""


def published(message: KernelMessage) -> KernelMessage | None:
    """The message as clients may have it; None if it makes no sense to them."""
    shape = _SHAPES.get(message.kind)
    if shape is None or not all(_is(message.content.get(name), kind) for name, kind in shape.items()):
        return None
    header = wire.plain_header(message.header)
    return None if header is None else replace(message, header=header)


def _is(value: Any, kind: type) -> bool:
    # In JSON true is no number.
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
