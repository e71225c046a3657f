"""The Jupyter gateway: kernels that forge or flood messages, clients that do not read or send garbage."""

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.channels import Channels, is_status, open_channels
from tests.hostile.conftest import PATIENCE_SEC, soon
from tests.hostile.forgery import FORGE, MALFORMED
from tests.support.process import Service
from tests.support.session import Session, StandingSession
from tests.support.sse import strict_json

FRAME_BYTES = 4 << 20
FLOOD = """
import threading
from comm import create_comm
comm = create_comm(target_name="t")
def flood():
    while not stop.is_set(): comm.send({"x": "y" * SIZE})
stop = threading.Event()
threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
"""


@pytest.fixture(scope="module", autouse=True)
def _opened(target: Service, standing: StandingSession) -> None:
    """Open a first WebSocket, so that the memory it takes is not counted as a leak."""
    with open_channels(target, standing.alive().id) as opened:
        opened.run("1")


@pytest.fixture
def channels(target: Service, session: Session) -> Iterator[Channels]:
    """A WebSocket to the standing session."""
    with open_channels(target, session.id) as opened:
        yield opened


@pytest.mark.parametrize("code", MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages_of_a_kernel_reach_clients_as_valid_json(channels: Channels, code: str) -> None:
    """A strict parser accepts every frame, and the next cell runs."""
    channels.run(FORGE + code, stop_on_error=False)
    assert channels.run("print('on')").text == "on\n"
    for frame in channels.frames:
        assert isinstance(frame, str)
        strict_json(frame.encode())


def test_kernel_cannot_forge_the_end_of_its_cell(channels: Channels) -> None:
    """Forged idle statuses and replies are dropped. The service alone reports the end."""
    request = channels.begin(
        FORGE
        + """
for _ in range(3): publish("status", {"execution_state": "idle"})
reply({"status": "ok", "execution_count": 666})
publish("execute_reply", {"status": "ok"}); publish("input_request", {"prompt": "key?"})
time.sleep(0.5)
print("after")
1 / 0
"""
    )
    outcome = channels.outcome(request)
    assert outcome.kinds.count("execute_reply") == outcome.kinds.count("input_request") == 0
    assert is_status(outcome.messages[-1], "idle")
    assert channels.run("'next'").data() == {"text/plain": "'next'"}


def test_forged_replies_are_dropped(channels: Channels) -> None:
    """A client gets one reply of the right type for each request."""
    channels.run(
        FORGE
        + """
def complete(code, cursor_pos, ask=kernel.do_complete):
    parent = kernel.get_parent("shell")["header"]["msg_id"]; who[:] = kernel._parent_ident["shell"]
    for kind in ("execute_reply", "shutdown_reply", "inspect_reply", "complete_reply"):
        reply({"status": "forged"}, kind=kind, parent=parent)
        reply({"status": "forged"}, kind=kind, parent="somebody")
    return ask(code, cursor_pos)
kernel.do_complete = complete
"""
    )
    request = channels.send("complete_request", {"code": "impor", "cursor_pos": 5})
    replies = [channels.reply(request)]
    last = channels.send("is_complete_request", {"code": "1"})
    while replies[-1]["parent_header"]["msg_id"] != last:
        message = channels.receive()
        if message["channel"] != "iopub":
            replies.append(message)
    assert [message["header"]["msg_type"] for message in replies] == ["complete_reply", "is_complete_reply"]


def test_forged_marks_do_no_harm(channels: Channels) -> None:
    """Forged marks delay their own cell only. The text is kept."""
    outcome = channels.run(
        FORGE
        + """
import hashlib
token = hashlib.sha256(messages.key).hexdigest()[:16]
for i in range(5): print(f"{i}\\x1e{token}mark-{i}\\x1f", end="")
print(f"\\x1e{token}" + "x" * 300)
print("\\x1e\\x1f" * 10, "end")
"""
    )
    assert (
        outcome.text == "01234" + "\x1e" + outcome.text[6:22] + "x" * 300 + "\n" + "\x1e\x1f" * 10 + " end\n"
    )


def test_flood_of_messages_does_not_block_the_service(target: Service, session: Session) -> None:
    """While threads of the kernel publish without end, the service answers. A restart ends the flood."""
    with open_channels(target, session.id) as channels:
        assert channels.run(FLOOD.replace("SIZE", "1")).status == "ok"
        for _ in range(50):
            channels.until_kind("comm_msg")
            assert target.api.http.get("/health").status_code == 200
        session.restart()
        channels.until(lambda message: is_status(message, "restarting"))
        assert channels.run("'calm'").data() == {"text/plain": "'calm'"}


@pytest.mark.timeout(300)
def test_flood_of_large_messages_ends_its_own_kernel(target: Service, session: Session) -> None:
    """Messages that are not read fast enough wait in the kernel, whose memory is limited."""
    with open_channels(target, session.id) as channels:
        assert channels.run(FLOOD.replace("SIZE", "1_000_000")).status == "ok"
        try:
            channels.until(lambda message: is_status(message, "restarting"), 280)
        except ConnectionClosed:  # On a busy machine this client may read too slowly, and is cut off.
            session.restart()
    with open_channels(target, session.id) as channels:
        assert channels.run("'calm'").data() == {"text/plain": "'calm'"}


def raw_handshake(service: Service, kernel_id: str) -> socket.socket:
    """Open a WebSocket on a plain socket, so that the test can send anything."""
    where = urlsplit(service.base_url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(30)
    raw.connect((where.hostname, where.port))
    raw.sendall(upgrade(f"/api/kernels/{kernel_id}/channels", where.netloc))
    assert b" 101 " in raw.recv(200)
    return raw


def upgrade(path: str, host: str, method: str = "GET", more: str = "") -> bytes:
    """Return the head of a handshake."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


def masked(opcode: int, payload: bytes, *, length: int | None = None) -> bytes:
    """Return a frame with a mask of zeros; `length` is the declared length if it is not the real one."""
    size = len(payload) if length is None else length
    return bytes([0x80 | opcode, 0x80 | 127]) + struct.pack("!Q", size) + bytes(4) + payload


def close_code(raw: socket.socket) -> int | None:
    """Return the close code that the service sends; None if it closes the connection without one."""
    data = b""
    while (at := data.find(b"\x88")) < 0 or len(data) < at + 4:
        try:
            piece = raw.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not piece:
            return None
        data += piece
    return int.from_bytes(data[at + 2 : at + 4], "big")


def test_client_that_does_not_read_is_disconnected(target: Service, session: Session) -> None:
    """Its messages do not pile up in the service."""
    raw = raw_handshake(target, session.id)
    with open_channels(target, session.id) as channels:
        began = time.monotonic()
        channels.begin("for i in range(20): display({'text/plain': 'x' * 1_000_000}, raw=True)")
        url = f"/api/kernels/{session.id}"
        assert soon(lambda: target.api.http.get(url).json()["connections"] == 1)
        assert time.monotonic() - began >= PATIENCE_SEC * 0.9
    raw.close()


def test_client_that_answers_no_ping_is_disconnected(target: Service, session: Session) -> None:
    """A client whose connection broke does not keep its session alive."""
    raw = raw_handshake(target, session.id)
    url = f"/api/kernels/{session.id}"
    assert target.api.http.get(url).json()["connections"] == 1
    assert soon(lambda: target.api.http.get(url).json()["connections"] == 0)
    raw.close()


FRAMES = {
    "text that is not JSON": (masked(1, b"no json"), 1007),
    "JSON that is not a message": (masked(1, b'{"header": 3}'), 1007),
    "text that is not UTF-8": (masked(1, b"\xff\xfe"), 1007),
    "JSON that is nested too deeply": (masked(1, b"[" * 100_000), 1007),
    "bytes that are not a message": (masked(2, b"\0\0\0\1"), 1007),
    "a frame with a huge declared length": (masked(1, b"", length=1 << 40), 1009),
    "a frame over the limit": (masked(1, b" " * 10, length=FRAME_BYTES + 1), 1009),
    "an unknown opcode": (masked(3, b""), 1002),
    "a frame without a mask": (bytes([0x81, 1]) + b"x", 1002),
    "a continuation without a start": (masked(0, b"x"), 1002),
    "reserved bits": (bytes([0xF1, 0x80]) + bytes(4), 1002),
}


@pytest.mark.parametrize(("frame", "code"), FRAMES.values(), ids=FRAMES)
def test_invalid_frame_closes_the_websocket(
    target: Service, session: Session, frame: bytes, code: int
) -> None:
    """The close code has the reason. The log has no error."""
    before = len(target.log_path.read_text())
    raw = raw_handshake(target, session.id)
    raw.sendall(frame)
    assert close_code(raw) == code
    raw.close()
    log = target.log_path.read_text()[before:]
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_waiting_requests_are_limited(target: Service, session: Session) -> None:
    """A thousand requests may wait for the kernel. Each further request is refused."""
    with open_channels(target, session.id) as channels:
        channels.begin("input()")
        channels.until_kind("input_request")
        for _ in range(1500):
            channels.begin("1")
        for _ in range(500):
            reply = channels.until_kind("execute_reply")
            assert reply["content"]["ename"] == "TooManyRequests"
        session.restart()
        channels.until(lambda message: message["content"].get("status") == "aborted")


def test_websockets_of_a_kernel_are_limited(target: Service, session: Session) -> None:
    """The ninth is refused. After one is closed, another can be opened."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_channels(target, session.id)) for _ in range(8)]
        with pytest.raises(InvalidStatus) as refused, open_channels(target, session.id):
            pass
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body)["code"] == "too_many_connections"
        sockets[0].socket.close()
        assert soon(lambda: is_open(target, session))


def is_open(target: Service, session: Session) -> bool:
    """Return whether a WebSocket can be opened and used."""
    try:
        with open_channels(target, session.id) as channels:
            return channels.run("1").status == "ok"
    except (InvalidStatus, ConnectionClosed):
        return False


def test_clients_that_connect_and_leave_take_no_memory(target: Service, session: Session) -> None:
    """Only a few disconnected clients are remembered, and all file descriptors are closed."""
    for _ in range(30):
        with open_channels(target, session.id) as channels:
            channels.begin("print('x' * 100_000)")
    assert soon(lambda: target.api.http.get(f"/api/kernels/{session.id}").json()["connections"] == 0)
    assert session.printed("'on'; print(1)") == "1"


HEADS = {
    "half a head": (b"GET /api/kernels/x/channels HTTP/1.1\r\nUpgrade: websocket\r\n", 0),
    "a head without end": (upgrade("/api/kernels/x/channels", "h", more="X: " + "y" * 70_000), 431),
    "another method": (upgrade("/api/kernels/x/channels", "h", method="POST"), 404),
    "another path": (upgrade("/health", "h"), 200),
    "hundreds of headers": (
        upgrade("/api/kernels/x/channels", "h", more="".join(f"X-{i}: y\r\n" for i in range(300))),
        431,
    ),
    "an unknown kernel": (upgrade("/api/kernels/x/channels", "h"), 404),
    "an invalid WebSocket key": (
        upgrade("/api/kernels/x/channels", "h").replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"x"),
        400,
    ),
    "an old version": (
        upgrade("/api/kernels/x/channels", "h").replace(b"Version: 13", b"Version: 1"),
        400,
    ),
    "a path that is not quoted": (upgrade("/api/kernels/../channels?%ff=%00&token=%ff", "h"), 404),
}


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS)
def test_invalid_handshake_gets_an_answer_or_is_disconnected(
    target: Service, head: bytes, status: int
) -> None:
    """No answer is a 500, and no connection stays open for longer than the timeout of clients."""
    where = urlsplit(target.base_url)
    before = len(target.log_path.read_text())
    with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_SEC + 10) as raw:
        raw.sendall(head)
        answer = raw.recv(1 << 16)
    got = int(answer.split(b" ", 2)[1]) if answer else 0
    assert got == status
    log = target.log_path.read_text()[before:]
    assert "Traceback" not in log


def test_random_bytes_after_a_handshake_do_no_harm(target: Service, session: Session) -> None:
    """Other clients can still run code."""
    for size in (1, 10, 1000, 100_000):
        raw = raw_handshake(target, session.id)
        raw.sendall(os.urandom(size))
        raw.close()
    with open_channels(target, session.id) as channels:
        assert channels.run("1").status == "ok"
