"""Tests of user code that sends more messages or bytes than the service could hold."""

import time
from textwrap import dedent

import pytest

from tests.hostile.conftest import MemoryWatch, soon
from tests.hostile.forgery import FORGE, valid_outputs
from tests.support.process import Service
from tests.support.session import Session, new_session

pytestmark = pytest.mark.usefixtures("canary")


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
        result = session.run("print('done')", timeout_ms=600)
        time.sleep(0.3)
    valid_outputs(result)
    assert result["stdout"] == "done\n" or result["timed_out"]
    assert watch.growth_kb < 64 * 1024, f"grew by {watch.growth_kb // 1024} MiB"
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


def test_deleted_session_with_a_flooding_kernel_leaves_no_container(target: Service) -> None:
    """The service closes its connection to the flooding server, and removes the container."""
    before = len(target.engine.kernels(target.instance_id))
    with new_session(target) as own:
        own.run(f"{PORT_TAKEN}\n{dedent(HOSTILE_SERVERS['endless frames'])}\nserve(talk)\ntime.sleep(0.2)")
        own.execute("print(1)", timeout_ms=300)
    assert soon(lambda: len(target.engine.kernels(target.instance_id)) == before)
