"""The content of Jupyter messages: which of the kernel's messages are valid, and replies. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from service.gateway.frames import sanitized_header
from sessions.executions.result import ExecutionResult
from sessions.kernels.plain_json import parse
from sessions.models import JsonObject, KernelMessage, PackedMessage

_MIME_BUNDLE: Final = {"data": dict, "metadata": dict}
_REQUIRED_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "status": {"execution_state": str},
    "execute_input": {"code": str, "execution_count": int},
    "execute_result": {**_MIME_BUNDLE, "execution_count": int},
    "display_data": _MIME_BUNDLE,
    "update_display_data": {**_MIME_BUNDLE, "transient": dict},
    "clear_output": {"wait": bool},
    "stream": {"name": str, "text": str},
    "error": {"ename": str, "evalue": str, "traceback": list},
    "comm_open": {"comm_id": str, "target_name": str, "data": dict},
    "comm_msg": {"comm_id": str, "data": dict},
    "comm_close": {"comm_id": str},
}
"""Types of the fields that a message must have, by its own type. Messages of other types are dropped."""

_REPLY_FIELDS_OF_KERNEL: Final[Mapping[str, type]] = {"user_expressions": dict, "payload": list}
"""Fields of an `execute_reply` that are taken from the kernel, and their types."""


_MAX_REQUEST_VALUES: Final = 2000
"""Values in the content, or in the metadata, of an `execute_request`. The code is one value."""


class BadRequest(Exception):
    """A client's request lacks something; the text says what."""


def valid_iopub_message(message: KernelMessage) -> KernelMessage | None:
    """Return a message of the kernel with a sanitized header, or None if clients could not handle it."""
    required = _REQUIRED_FIELDS.get(message.kind)
    if required is None or not all(_is(message.content.get(name), kind) for name, kind in required.items()):
        return None
    header = sanitized_header(message.header)
    return None if header is None else replace(message, header=header)


def _is(value: Any, kind: type) -> bool:
    # In Python a bool is an int, in JSON it is not.
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def decoded_request(request: PackedMessage) -> KernelMessage:
    """Return an `execute_request` with its metadata and its content. Raises `BadRequest`."""
    _, _, metadata, content = (parse(part) for part in request.parts)
    if metadata.count > _MAX_REQUEST_VALUES or content.count > _MAX_REQUEST_VALUES:
        raise BadRequest(f"the execute_request has more than {_MAX_REQUEST_VALUES} values")
    return KernelMessage(request.header, {}, metadata.value, content.value)


def kernel_request(message: KernelMessage, *, silent: bool) -> KernelMessage:
    """Return a client's `execute_request` with the fields that are passed to the kernel."""
    expressions = message.content.get("user_expressions")
    content = {"silent": silent, "user_expressions": expressions if isinstance(expressions, dict) else {}}
    return replace(message, content=content)


def error_reply(name: str, value: str) -> JsonObject:
    """Return the content of the reply to a request that failed; `name` and `value` describe the error."""
    return {"status": "error", "ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}


def execute_reply(result: ExecutionResult, kernel_reply: JsonObject) -> JsonObject:
    """Return the content of an `execute_reply`.

    Args:
        result: how the cell ended, which the service has established itself.
        kernel_reply: content of the kernel's reply, for the fields that only the kernel knows. User code
            may have forged it.
    """
    content: JsonObject = {"status": "ok", "execution_count": result.execution_count}
    error = result.error
    if error is not None:
        content |= error_reply(error.name, error.value)
        content["traceback"] = list(error.traceback) or content["traceback"]
    for name, kind in _REPLY_FIELDS_OF_KERNEL.items():
        value = kernel_reply.get(name)
        content[name] = value if isinstance(value, kind) else kind()
    return content
