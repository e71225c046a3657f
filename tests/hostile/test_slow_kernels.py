"""Kernels that read one byte a second: what is sent to them does not pile up in the service."""

from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.channels import open_channels
from tests.hostile.bounds.watch import unharmed
from tests.hostile.conftest import soon
from tests.hostile.forgery import FORGE
from tests.hostile.test_stopped_kernels import LARGE, MESSAGES, JupyterMessage, flood_messages
from tests.support.process import Service
from tests.support.session import Session, StandingSession, new_session

READ_SLOWLY = f"""{FORGE}
import asyncio, gc, zmq
TYPES = {{zmq.ROUTER: b"ROUTER", zmq.PUB: b"PUB", zmq.XPUB: b"PUB"}}
def take_ports():
    taken = []
    for thing in gc.get_objects():
        if isinstance(thing, zmq.Socket) and not thing.closed and thing.type in TYPES:
            where = thing.getsockopt(zmq.LAST_ENDPOINT)
            if where.startswith(b"tcp://"):
                taken.append((int(where.rstrip(b"\\0").rpartition(b":")[2]), TYPES[thing.type]))
                thing.close(0)
    for port, kind in taken: threading.Thread(target=serve, args=(port, kind), daemon=True).start()
def serve(port, kind):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    while True:
        try: listener.bind(("0.0.0.0", port)); break
        except OSError: time.sleep(0.02)
    listener.listen(50)
    open(f"serving_{{kind.decode()}}", "w").close()
    while True: threading.Thread(target=talk, args=(listener.accept()[0], kind), daemon=True).start()
def talk(client, kind):
    client.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\x00" + b"NULL".ljust(20, b"\\0") + bytes(32))
    ready = b"\\x05READY\\x0bSocket-Type" + struct.pack("!I", len(kind)) + kind
    client.sendall(bytes([4, len(ready)]) + ready)
    while client.recv(1): time.sleep(1)
asyncio.get_running_loop().call_later(0.3, take_ports)
"""
"""User code that serves the kernel's ports itself, as ZeroMQ does, and reads one byte a second."""


@pytest.fixture(scope="module", autouse=True)
def _opened(target: Service, standing: StandingSession) -> None:
    """Open a first WebSocket, so that what it takes is not counted as a leak."""
    with open_channels(target, standing.alive().id) as opened:
        opened.run("1")


def make_slow(session: Session) -> Session:
    """Let the kernel of a session read slowly, and return the session."""
    session.run(READ_SLOWLY)
    assert soon(lambda: session.bash("ls serving_ROUTER serving_PUB")["exit_code"] == 0)
    return session


@pytest.fixture
def slow(session: Session) -> Iterator[Session]:
    """A session whose kernel reads slowly. It gets a new kernel afterwards."""
    yield make_slow(session)
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_large_messages_for_a_slow_kernel_are_bounded(
    target: Service, slow: Session, message: JupyterMessage
) -> None:
    """A kernel that reads a little releases nothing of what waits, and other clients are served."""
    with unharmed(target):
        flood_messages(target, slow, message, 40)


def test_websockets_that_come_and_go_are_bounded_beside_a_slow_kernel(target: Service, slow: Session) -> None:
    """Messages that the kernel has read in part go with the WebSocket that sent them."""
    with unharmed(target):
        for _ in range(8):
            flood_messages(target, slow, MESSAGES["kernel infos"], 3)


def test_large_questions_of_the_api_to_a_slow_kernel_are_bounded(target: Service, slow: Session) -> None:
    """Questions and cells end at their time limits, and their data goes with them."""
    with unharmed(target):
        for path in ("complete", "inspect") * 3:
            slow.call("POST", f"/{path}", json={"code": LARGE, "cursor_pos": 1})
        assert slow.run(f"#{LARGE}", timeout_ms=1000)["timed_out"]


def test_slow_kernels_of_several_sessions_are_bounded_together(target: Service) -> None:
    """Each session's kernel may leave a message unread. Together they stay below the bound."""
    sessions: list[Session] = []
    with new_session(target) as one, new_session(target) as other, new_session(target) as third:
        sessions = [make_slow(each) for each in (one, other, third)]
        with unharmed(target):
            for each in sessions * 2:
                each.call("POST", "/complete", json={"code": LARGE, "cursor_pos": 1})
            for each in sessions:
                try:
                    with open_channels(target, each.id) as channels:
                        for _ in range(3):
                            channels.send("kernel_info_request", {"x": LARGE}, "control")
                except ConnectionClosed:
                    continue
