"""What clients are answered to a cell. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from service.routes.schemas.execute import ExecuteResult
from sessions.models import JsonObject, KernelMessage

_PASSED_ON: Final[Mapping[str, type]] = {"user_expressions": dict, "payload": list}
"""Of what the kernel replies."""


class BadRequest(Exception):
    """A request that makes no sense; the text says why."""


def asked(message: KernelMessage, *, silent: bool) -> KernelMessage:
    """An execute_request with what the kernel gets of it."""
    expressions = message.content.get("user_expressions")
    content = {"silent": silent, "user_expressions": expressions if isinstance(expressions, dict) else {}}
    return replace(message, content=content)


def failed(name: str, value: str) -> JsonObject:
    """The content of a reply to a request that was not carried out."""
    return {"status": "error", "ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}


def of_result(result: ExecuteResult, reply: JsonObject) -> JsonObject:
    """The content of an execute_reply: the service's verdict, and with it what only the kernel knows."""
    content: JsonObject = {"status": "ok", "execution_count": result.execution_count}
    error = result.error
    if error is not None:
        content |= failed(error.name, error.value)
        content["traceback"] = error.traceback or content["traceback"]
    for name, kind in _PASSED_ON.items():
        value = reply.get(name)
        content[name] = value if isinstance(value, kind) else kind()
    return content
