"""User code that forges messages with its kernel's key, on its kernel's sockets and pipes."""

import json
import time
from textwrap import dedent
from typing import Any

import nbformat
import pytest

from service.routes.schemas.execute import ExecuteResponse, ExecuteResult
from tests.hostile.conftest import MEGABYTE, MemoryWatch, soon
from tests.support.api import Body
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.sse import strict_json

pytestmark = pytest.mark.usefixtures("canary")

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


@pytest.mark.parametrize("attack", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_skipped(session: Session, attack: str) -> None:
    """The answer is as without them, the next display is part of it, and nothing fails."""
    result = session.run(f"{FORGE}\n{attack}\ndisplay('after')\nprint('end')")
    outputs = valid_outputs(result)
    assert outputs[-1]["data"]["text/plain"] == "'after'" or "outputs" in result["truncated"], outputs[-3:]
    assert "unsigned" not in str(outputs)
    assert (result["stdout"], result["exit_code"], result["state"]) == ("end\n", 0, "kept"), result["stderr"]
    streamed = session.stream(f"{FORGE}\n{attack}\ndisplay('after')\nprint('end')")
    assert streamed[-1].type == "result"
    ExecuteResult.model_validate(streamed[-1].data, strict=True)
    notebook = strict_json(session.call("GET", "/notebook").content)
    validate(notebook)


def test_messages_after_one_that_is_too_large_are_read(session: Session) -> None:
    """A message of 40 MB is skipped, a note says so, and the channel stays open."""
    attack = "publish('display_data', bundle(text_plain='x' * 40_000_000))\ndisplay('after')"
    result = session.run(f"{FORGE}\n{attack}")
    outputs = valid_outputs(result)
    assert result["truncated"] == ["outputs"]
    assert [output["data"]["text/plain"][:12] for output in outputs] == ["[output left", "'after'"]


def test_millions_of_values_are_left_out(session: Session, target: Service) -> None:
    """Three million empty lists in ten megabytes would become a gigabyte of objects, and are not parsed."""
    attack = """many = b'{"data":{"application/json":[' + b'[],' * 3_000_000 + b'0]}}'
for _ in range(5): publish('display_data', many)
fewer = b'{"data":{"application/json":[' + b'[],' * 300_000 + b'0]}}'
for _ in range(20): publish('display_data', fewer)
display('after')"""
    with MemoryWatch(target) as watch:
        result = session.run(f"{FORGE}\n{attack}")
    assert result["truncated"] == ["outputs"]
    assert len(valid_outputs(result)) < 5
    assert watch.growth_kb < 80 * 1024, f"grew by {watch.growth_kb // 1024} MiB"


PORT_TAKEN = FORGE + dedent("""
    import gc, zmq
    port = 0
    for thing in gc.get_objects():
        if isinstance(thing, zmq.Socket) and not thing.closed and thing.type in (zmq.PUB, zmq.XPUB):
            where = thing.getsockopt(zmq.LAST_ENDPOINT)
            if where.startswith(b"tcp://"): port = int(where.rstrip(b"\\0").rpartition(b":")[2])
            thing.close(0)
    def serve(talk):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try: listener.bind(("0.0.0.0", port)); break
            except OSError: time.sleep(0.02)
        listener.listen(5)
        def serve_for_good():
            while True:
                client, _ = listener.accept()
                try: talk(client)
                except OSError: pass
        threading.Thread(target=serve_for_good, daemon=True).start()
    def greet(client):
        client.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\x00" + b"NULL".ljust(20, b"\\0") + bytes(32))
        ready = b"\\x05READY\\x0bSocket-Type" + struct.pack("!I", 3) + b"PUB"
        client.sendall(bytes([4, len(ready)]) + ready)
""")
"""User code takes the kernel's port for a server of its own, to which the service connects."""

HOSTILE_SERVERS = {
    "endless frames": """
        def talk(client):
            greet(client)
            piece = b"\\x03" + struct.pack("!Q", 1 << 20) + bytes(1 << 20)
            while True: client.sendall(piece)
    """,
    "endless empty frames": """
        def talk(client):
            greet(client)
            while True: client.sendall(b"\\x01\\x00" * 100_000)
    """,
    "frame of exabytes": """
        def talk(client):
            greet(client)
            client.sendall(b"\\x02" + b"\\x7f" + b"\\xff" * 7)
            while True: client.sendall(bytes(1 << 20))
    """,
    "endless commands": """
        def talk(client):
            greet(client)
            while True: client.sendall(b"\\x04\\x05\\x04PING" * 10_000)
    """,
    "endless messages": """
        def talk(client):
            greet(client)
            while True: client.sendall(b"\\x00\\x01x" * 10_000)
    """,
    "no greeting": "def talk(client): time.sleep(60)",
    "another protocol": """
        def talk(client):
            while True: client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n" * 1000)
    """,
    "half a greeting, then closed": "def talk(client): client.sendall(b'\\xff' + bytes(8)); client.close()",
}
"""Servers that send other bytes than a kernel does."""


@pytest.mark.parametrize("talk", HOSTILE_SERVERS.values(), ids=HOSTILE_SERVERS.keys())
def test_server_on_the_kernels_port_cannot_flood_the_service(
    target: Service, session: Session, talk: str
) -> None:
    """Between cells and during a cell, the service's memory stays low, and calls end in time."""
    taken = session.run(f"{PORT_TAKEN}\n{dedent(talk)}\nserve(talk)\ntime.sleep(0.3)", timeout_ms=5000)
    assert taken["exit_code"] == 0, taken["stderr"]
    with MemoryWatch(target) as watch:
        result = session.run("print('heard')", timeout_ms=600)
        time.sleep(0.3)
    valid_outputs(result)
    assert result["stdout"] == "heard\n" or result["timed_out"]
    assert watch.growth_kb < 64 * 1024, f"grew by {watch.growth_kb // 1024} MiB"
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


FORGED_END = {
    "idle before the end": "publish('status', {'execution_state': 'idle'})",
    "idle for all parents": "for _ in range(2000): publish('status', {'execution_state': 'idle'})",
    "reply before the real one": "reply({'status': 'ok', 'execution_count': 1})",
    "reply that reports an error": "reply({'status': 'error', 'ename': 'Forged', 'traceback': 'no list'})",
    "invalid replies": f"""for value in [{NONSENSE}]:
    reply(value); reply({{'status': value, 'ename': value, 'evalue': value, 'traceback': value,
           'execution_count': value, 'code_interpreter': value}})
    reply({{'code_interpreter': {{'exit_code': value}}}})""",
    "reply with a traceback of many megabytes": """reply({'status': 'error', 'ename': 'x' * 1000000,
    'evalue': 'x' * 1000000, 'traceback': ['x' * 1000] * 12000})""",
    "exit code of a million digits": """reply(b'{"status":"error","code_interpreter":{"exit_code":'
    + b'9' * 1000000 + b'}}')
reply(b'{"status":"error","code_interpreter":{"exit_code":' + b'9' * 4000 + b'}}')""",
    "replies of other kinds": """
for kind in ('kernel_info_reply', 'execute_input', 'shutdown_reply', '', 'x' * 60000):
    reply({'status': 'ok'}, kind=kind)""",
    "replies to other requests": """
for parent in ('', 'x', 'x' * 60000, own[:-1], own + '0', 'execute_request'):
    reply({'status': 'error', 'ename': 'Forged'}, parent=parent)
    publish('status', {'execution_state': 'idle'}, parent=parent)
    publish('display_data', bundle(text_plain='forged'), parent=parent)""",
}
"""Messages that report the end of a cell that still runs."""


@pytest.mark.parametrize("attack", FORGED_END.values(), ids=FORGED_END.keys())
def test_forged_end_affects_only_its_own_call(session: Session, attack: str) -> None:
    """The call has a valid answer in time. The next call has its own answer, not the forged one."""
    result = session.run(f"{FORGE}\n{attack}\ntime.sleep(0.2)\nprint('end')", timeout_ms=3000)
    valid_outputs(result)
    assert len(json.dumps(result)) < 2 * MEGABYTE
    following = session.run("print('mine')\n1 / 0")
    assert following["error"]["name"] == "ZeroDivisionError", following
    assert following["stdout"].endswith("mine\n")


def test_replies_cannot_be_left_for_the_next_call(session: Session) -> None:
    """Requests have random ids: replies to all ids that could be guessed are skipped."""
    attack = """session_id = own.rpartition('_')[0]
for number in range(300):
    for parent in (f'{session_id}_{number}', f'{own}_{number}', str(number)):
        reply({'status': 'ok', 'execution_count': 999, 'code_interpreter': {'exit_code': 0}}, parent=parent)
        publish('display_data', bundle(text_plain='forged'), parent=parent)
        publish('status', {'execution_state': 'idle'}, parent=parent)"""
    session.run(f"{FORGE}\n{attack}")
    following = session.run("import time; time.sleep(0.3); raise SystemExit(7)")
    assert (following["exit_code"], following["outputs"]) == (7, [])
    assert following["execution_count"] != 999


PIPE = FORGE + dedent("""
    def write(data):
        while data: data = data[os.write(kernel.supervisor_pipes._events, data):]
    line = lambda entry: json.dumps(entry).encode() + b"\\n"
""")

FORGED_EVENTS = {
    "nonsense": f"""for value in [{NONSENSE}]:
    write(line(value)); write(line({{"type": value}})); write(line({{"begin": value}}))
write(b"\\n" * 10000 + b"\\xff\\n{{\\n")""",
    "200,000 levels in a line": f"write({LISTS.format(200_000)} + b'\\n')",
    "endless line": "for _ in range(40): write(b'x' * 1_000_000)\nwrite(b'\\n')",
    "end of the cell": """write(line({"type": "record", "reply": {"status": "ok"}, "outputs": []}))
time.sleep(0.2)""",
    "end of the cell, a thousand times": """for _ in range(1000):
    write(line({"type": "record", "reply": 7, "outputs": {"a": 1}}))""",
    "end of another cell and begin of the next": """
write(line({"begin": "0" * 32}) + line({"exit": 0}))
os.write(kernel.supervisor_pipes._events, line({"answer": "x", "type": "end", "exit_code": 0}))""",
    "pipes filled from the wrong end": """
for number in os.listdir("/proc/self/fd"):
    try:
        if "pipe:" in os.readlink(f"/proc/self/fd/{number}"):
            other = os.open(f"/proc/self/fd/{number}", os.O_RDWR | os.O_NONBLOCK)
            os.write(other, b'{"begin": "x"}\\n' * 200)
    except OSError: pass""",
    "endless requests for input": """for number in range(20_000):
    write(line({"type": "input_request", "prompt": "x" * 100, "password": bool(number % 2)}))""",
    "huge request for input": """write(line({"type": "input_request", "prompt": "\\u2028" * 5_000_000,
    "password": False}))""",
}
"""Forged events, which user code writes to the pipe from its kernel to the supervisor."""


@pytest.mark.parametrize("attack", FORGED_EVENTS.values(), ids=FORGED_EVENTS.keys())
def test_forged_event_affects_only_its_own_call(session: Session, attack: str) -> None:
    """A streamed call that allows input has a valid end in time, and the next call works."""
    events = session.stream(f"{PIPE}\n{attack}\nprint('end')", timeout_ms=4000, allow_stdin=True)
    assert events[-1].type in ("result", "error")
    asked = [event for event in events if event.type == "input_request"]
    assert sum(len(json.dumps(event.data)) for event in asked) < 3 * MEGABYTE
    assert len(asked) <= 1000
    if events[-1].type == "result":
        ExecuteResult.model_validate(events[-1].data, strict=True)
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


DISPLAYS = """count = 0
for name in ["d"] + ["same"] * 1000:
    publish('display_data', {'data': {}, 'transient': {'display_id': name}})
"""

FLOODS = {
    "displays": "publish('display_data', {'data': {}})",
    "results": "publish('execute_result', {'data': {'text/plain': 'x'}, 'execution_count': 1})",
    "updates of a display": "publish('update_display_data', {'data': {}, 'transient': {'display_id': 'd'}})",
    "updates of a thousand displays at once": "publish('update_display_data', "
    "{'data': {'text/plain': 'x' * 100}, 'transient': {'display_id': 'same'}})",
    "clear_output": "publish('clear_output', {'wait': bool(count % 2)}); "
    "publish('display_data', {'data': {}})",
    "comm messages": "publish('comm_msg', {'comm_id': 'x', 'data': {}})",
    "streams": "publish('stream', {'name': 'stdout', 'text': 'forged' * 100})",
    "input requests": "publish('input_request', {'prompt': 'x', 'password': False})",
    "statuses": "publish('status', {'execution_state': 'busy'})",
    "nonsense": "publish_frames([b'x'] * 6)",
    "replies": "reply({'status': 'ok'}, parent='nobody')",
    "errors": "publish('error', {'ename': 'Forged', 'evalue': 'x' * 1000, 'traceback': ['x'] * 10})",
}
"""Messages that are sent as fast as possible."""


@pytest.mark.parametrize("attack", FLOODS.values(), ids=FLOODS.keys())
def test_flood_of_messages_does_not_slow_other_requests(
    target: Service, session: Session, attack: str
) -> None:
    """Other requests are answered, the service's memory stays low, and the timeout is kept."""
    cell_id = session.detach(
        f"{FORGE}\n{DISPLAYS}\nwhile True:\n    count += 1\n    {attack}", timeout_ms=600
    )
    with MemoryWatch(target) as watch:
        while session.cell(cell_id)["state"] == "running":
            assert target.api.http.get("/health").json()["status"] == "ok"
    result = session.finished(cell_id)["result"]
    valid_outputs(result)
    assert "forged" not in result["stdout"].lower()
    assert result["timed_out"] or result["error"]["name"] == "MemoryLimitExceeded"
    assert result["duration_ms"] < 30_000
    assert watch.growth_kb < 64 * 1024, f"grew by {watch.growth_kb // 1024} MiB"


def test_forged_file_id_in_a_display_is_removed(session: Session, target: Service) -> None:
    """A file id that user code adds to its display is not passed on: it may be the id of another's file."""
    other = target.api.upload(b"a file of another caller")
    attack = f"""forged = {{"file_id": "{other}", "width": 3}}
named = {{"image/png": forged, "text/plain": forged, "x": forged}}
publish('display_data', {{"data": {{"text/plain": "x", "image/png": "!"}}, "metadata": named}})
publish('display_data', {{"data": {{"text/plain": "x", "image/png": 7}}, "metadata": named}})"""
    result = session.run(f"{FORGE}\n{attack}")
    assert other not in json.dumps(valid_outputs(result))
    assert result["outputs"][0]["metadata"]["text/plain"] == {"width": 3}
    response = session.call(
        "POST", "/execute", params={"images": "ref"}, json={"code": f"{FORGE}\n{attack}", "timeout_ms": 5000}
    )
    assert response.json()["outputs"][0]["data"]["text/plain"] == "x", "a forged id replaces no data"


def test_forged_messages_end_a_one_shot_execution(target: Service) -> None:
    """The call has a valid answer in time."""
    attacks: dict[str, Any] = {
        "reply": "reply({'status': 'ok'})\ntime.sleep(600)",
        "idle": "publish('status', {'execution_state': 'idle'})\ndisplay('after')",
        "event": 'os.write(kernel.supervisor_pipes._events, b\'{"type": "record"}\\n\')\ntime.sleep(600)',
    }
    for name, attack in attacks.items():
        result = target.api.run(f"{FORGE}\nprint('began')\n{attack}", timeout_ms=4000)
        assert result["stdout"] == "began\n"
        # Displays that follow a forged idle status may be lost.
        shown = [output["data"]["text/plain"] for output in valid_outputs(result)]
        assert name != "idle" or shown in ([], ["'after'"])


def test_deleted_session_with_a_flooding_kernel_leaves_no_container(target: Service) -> None:
    """The service closes its connection to the flooding server, and removes the container."""
    before = len(target.engine.kernels(target.instance_id))
    with new_session(target) as own:
        own.run(f"{PORT_TAKEN}\n{dedent(HOSTILE_SERVERS['endless frames'])}\nserve(talk)\ntime.sleep(0.2)")
        own.execute("print(1)", timeout_ms=300)
    assert soon(lambda: len(target.engine.kernels(target.instance_id)) == before)
