"""User code that forges messages with its kernel's key, and checks of the answers to it."""

import json
from textwrap import dedent

import nbformat

from service.routes.schemas.execute import ExecuteResponse
from tests.support.api import Body

FORGE = dedent("""
    import json, os, socket, struct, sys, threading, time
    kernel = get_ipython().kernel
    messages = kernel.session
    request = kernel.get_parent("shell")
    own = request["header"]["msg_id"]
    who = kernel._parent_ident["shell"]
    text = lambda value: value if isinstance(value, bytes) else json.dumps(value).encode()

    def frames(kind, content, parent=own, header=None, sign=messages.sign, metadata=b"{}"):
        header = {"msg_id": "m", "msg_type": kind} if header is None else header
        parent = {"msg_id": parent} if isinstance(parent, str) else parent
        signed = [text(header), text(parent), text(metadata), text(content)]
        return [b"<IDS|MSG>", sign(signed), *signed]

    def publish(*arguments, **options):
        kernel.iopub_socket.send_multipart(frames(*arguments, **options))

    def publish_frames(parts):
        kernel.iopub_socket.send_multipart(parts)

    def reply(content, kind="execute_reply", **options):
        kernel.shell_stream.socket.send_multipart([*who, *frames(kind, content, **options)])

    def bundle(**data):
        return {"data": {name.replace("_", "/"): value for name, value in data.items()}, "metadata": {}}
""")
"""Functions that send signed messages of any kind, to any parent, on both channels."""

LISTS = 'b"[" * {0} + b"]" * {0}'

NONSENSE = (
    'None, 7, -1, 1.5, True, "text", [], {}, [[1]], {"a": {"b": 1}}, "x" * 70000, '
    '"\\ud800", "\\u202e", [None], {"": None}'
)

MALFORMED = {
    "200,000 levels": "publish('display_data', b'{\"data\":{\"application/json\":' + "
    + LISTS.format(200_000)
    + " + b'}}')",
    "nearly a thousand levels instead of text": "for depth in range(800, 1010, 3):\n"
    "    publish('display_data', b'{\"data\":{\"text/plain\":' + b'[' * depth + b']' * depth + b'}}')",
    "levels in header, parent and metadata": f"""deep = {LISTS.format(200_000)}
publish('display_data', bundle(text_plain='x'), header=deep)
publish('display_data', bundle(text_plain='x'), parent=deep)
publish('display_data', bundle(text_plain='x'), metadata=deep)""",
    "numbers of 5,000 digits": """for digits in (20, 400, 4299, 4300, 5000):
    publish('display_data', b'{"data":{"application/json":' + b'9' * digits + b'}}')
    publish('execute_result', b'{"data":{},"execution_count":' + b'9' * digits + b'}')
    publish('execute_result', b'{"data":{},"execution_count":-' + b'9' * digits + b'}')""",
    "invalid numbers": """publish('display_data',
    b'{"data":{"application/json":[NaN,Infinity,-Infinity,1e999,-1e999,-0.0,1E-999]},"metadata":{"a":NaN}}')""",
    "lone surrogates everywhere": """half = "\\ud800"
publish('display_data', {"data": {"text/plain": half, half: half, "application/json": {half: [half]}},
                         "metadata": {half: half}, "transient": {"display_id": half}})
publish('display_data', {"data": {"text/plain": [half, half]}, "transient": {half: 1}})""",
    "bytes that are not UTF-8": """
publish('display_data', b'{"data":{"text/plain":"\\xff\\xfe\\xed\\xa0\\x80"}}')
publish(b'', b'\\xff\\xfe', header=b'\\xff')""",
    "the same key twice": """publish('display_data',
    b'{"data":1,"data":{"text/plain":"a","text/plain":"b"},"metadata":7,"metadata":{"x":1,"x":2}}')""",
    "wrong types everywhere": f"""nonsense = [{NONSENSE}]
kinds = ('display_data', 'execute_result', 'update_display_data', 'clear_output', 'status', 'stream', 'error')
for kind in kinds:
    for value in nonsense:
        publish(kind, value)
        publish(kind, {{"data": value, "metadata": value, "transient": value, "wait": value,
                       "execution_count": value, "execution_state": value, "name": value, "text": value}})
        publish(kind, {{"data": {{"text/plain": value, "image/png": value, "image/svg+xml": value,
                                  "application/json": value}}, "metadata": {{"image/png": value}},
                       "transient": {{"display_id": value}}}})""",
    "headers without required fields": f"""for value in [{NONSENSE}]:
    publish('display_data', bundle(text_plain='x'), header=value)
    publish('display_data', bundle(text_plain='x'), parent=value)
    for name in ("msg_id", "msg_type", "date", "session", "version", "username"):
        publish('display_data', bundle(text_plain='x'), header={{"msg_type": "display_data", name: value}})
        publish('display_data', bundle(text_plain='x'), parent={{"msg_id": own, name: value}})""",
    "invalid dates": """
for date in ("yesterday", "9999-99-99T99:99:99Z", "0000-00-00", 10**30, None, [],
             "2026-01-01T00:00:00+99:99", "-" * 100000):
    header = {"msg_id": "m", "msg_type": "display_data", "date": date}
    parent = {"msg_id": own, "date": date}
    publish('display_data', {"data": {"text/plain": date}}, header=header, parent=parent)""",
    "wrong signatures": """for signature in (b"", b"0" * 64, b"\\xff" * 64, b"x" * 1000000):
    publish('display_data', bundle(text_plain='unsigned'), sign=lambda parts: signature)""",
    "missing, empty or too many frames": """mark = b"<IDS|MSG>"
for parts in ([b""], [mark], [mark] * 7, [b"x"] * 9, [mark, b"s"], [mark] + [b""] * 5, [mark, *[b"{}"] * 5],
              [b""] * 900, [b"x"] * 900 + frames("display_data", {}), [b""] * 5000, frames("a", {}) * 300):
    publish_frames(parts)""",
}
"""Signed messages that are invalid. They have no effect, and the next valid message is read."""


def validate(notebook: Body) -> None:
    """Assert that this is a notebook of format 4.5. Version and metadata may be missing."""
    nbformat.validate({"nbformat": 4, "nbformat_minor": 5, "metadata": {}} | notebook)


def valid_outputs(result: Body) -> list[Body]:
    """Assert that the outputs fit notebook, schema and every JSON reader, and return them."""
    ExecuteResponse.model_validate(result, strict=True)
    cell: Body = {"cell_type": "code", "id": "a", "metadata": {}, "source": "", "execution_count": None}
    validate({"cells": [cell | {"outputs": result["outputs"]}]})
    json.dumps(result).encode("ascii")
    outputs: list[Body] = result["outputs"]
    return outputs
