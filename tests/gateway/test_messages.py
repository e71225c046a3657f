"""The content of Jupyter messages: which of the kernel's messages clients get, and replies."""

from typing import Any

from service.gateway import messages
from sessions.models import KernelMessage


def valid(kind: str, content: dict[str, Any], **header: Any) -> KernelMessage | None:
    """Return the message as clients get it, or None if they do not."""
    message = KernelMessage({"msg_id": "m", "msg_type": kind, **header}, {}, {}, content)
    return messages.valid_iopub_message(message)


def test_messages_without_the_fields_of_their_type_are_dropped() -> None:
    """Missing fields of the header are added and unknown ones removed."""
    whole = valid("stream", {"name": "stdout", "text": "x"}, more=[1], date=5)
    assert whole is not None
    assert set(whole.header) == {"msg_id", "msg_type", "session", "username", "date", "version"}
    assert valid("status", {"execution_state": "busy"})
    assert valid("execute_result", {"data": {}, "metadata": {}, "execution_count": True}) is None
    assert valid("display_data", {"data": [], "metadata": {}}) is None
    assert valid("comm_msg", {"comm_id": 5, "data": {}}) is None
    assert valid("stream", {"name": "stdout"}) is None
    assert valid("execute_reply", {"status": "ok"}) is None
    assert valid("status", {"execution_state": "busy"}, msg_id="x" * 300) is None


def test_kernel_gets_user_expressions_only_as_an_object() -> None:
    """A client's code is not part of the request: it is in the cell."""
    request = KernelMessage({}, content={"user_expressions": [1], "code": "x"})
    assert messages.kernel_request(request, silent=True).content == {"silent": True, "user_expressions": {}}


def test_error_reply_has_the_fields_of_jupyter() -> None:
    """Clients show the traceback, so an error without one gets one line."""
    reply = messages.error_reply("Name", "value")
    assert reply == {"status": "error", "ename": "Name", "evalue": "value", "traceback": ["Name: value"]}
