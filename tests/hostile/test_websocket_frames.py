"""Floods of WebSocket frames: the service answers other callers meanwhile, and holds little of the flood."""

import contextlib
import json
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from tests.gateway.channels import open_channels
from tests.hostile.bounds.watch import unharmed
from tests.hostile.conftest import MEGABYTE, soon
from tests.hostile.test_gateway import close_code, masked, raw_handshake
from tests.support.process import Service
from tests.support.session import Session, StandingSession

FLOOD_SEC = 2.0
EMPTY_TEXT_START = bytes([0x01, 0x80]) + bytes(4)


@pytest.fixture(scope="module", autouse=True)
def _opened(target: Service, standing: StandingSession) -> None:
    """Open a first WebSocket, so that what it takes is not counted as a leak."""
    with open_channels(target, standing.alive().id) as opened:
        opened.run("1")


def small(first: int, payload: bytes = b"") -> bytes:
    """Return a frame of less than 126 bytes with a mask of zeros; `first` is its first byte."""
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def request(kind: str, channel: str) -> bytes:
    """Return the frame of a tiny request."""
    header = {"msg_id": "a", "msg_type": kind}
    return masked(1, json.dumps({"channel": channel, "header": header}).encode())


def flood(raw: socket.socket, data: bytes, seconds: float = FLOOD_SEC, start: bytes = b"") -> None:
    """Send data again and again, as fast as the service reads it. Return early if it disconnects."""
    raw.settimeout(seconds)
    deadline = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        raw.sendall(start)
        while time.monotonic() < deadline:
            raw.sendall(data)


FLOODS = {
    "pings": (b"", small(0x89) * 10_000),
    "long pings": (b"", small(0x89, b"p" * 125) * 1000),
    "pongs": (b"", small(0x8A) * 10_000),
    "empty continuations": (EMPTY_TEXT_START, small(0x00) * 10_000),
    "continuations of one byte": (EMPTY_TEXT_START, small(0x00, b" ") * 10_000),
    "pings between continuations": (EMPTY_TEXT_START, (small(0x89) + small(0x00)) * 5000),
    "empty texts": (b"", small(0x81) * 10_000),
    "texts of one byte": (b"", small(0x81, b"x") * 10_000),
    "empty binaries": (b"", small(0x82) * 10_000),
    "closes": (b"", small(0x88, b"\x03\xe8") * 10_000),
    "unknown requests": (b"", request("odd_request", "control") * 1000),
    "unknown messages": (b"", request("odd", "iopub") * 1000),
    "kernel infos": (b"", request("kernel_info_request", "control") * 1000),
    "kernel infos on shell": (b"", request("kernel_info_request", "shell") * 1000),
    "interrupts": (b"", request("interrupt_request", "control") * 1000),
    "input replies": (b"", request("input_reply", "stdin") * 1000),
    "cells without code": (b"", request("execute_request", "shell") * 1000),
}


@pytest.mark.parametrize(("start", "data"), FLOODS.values(), ids=FLOODS)
def test_flood_of_frames_does_not_stall_the_service(
    target: Service, session: Session, start: bytes, data: bytes
) -> None:
    """Frames are parsed at a limited rate. The rest stays in the client's socket."""
    raw = raw_handshake(target, session.id)
    with unharmed(target):
        flood(raw, data, start=start)
    raw.close()


def test_floods_on_many_websockets_do_not_stall_the_service(target: Service, session: Session) -> None:
    """The rate of frames is limited in the whole service."""
    floods = list(FLOODS.values())
    with ExitStack() as stack:
        sockets = [stack.enter_context(raw_handshake(target, session.id)) for _ in range(8)]
        threads = [
            threading.Thread(target=flood, args=(raw, floods[at][1]), kwargs={"start": floods[at][0]})
            for at, raw in enumerate(sockets)
        ]
        with unharmed(target):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def test_client_works_beside_a_flood(target: Service, session: Session) -> None:
    """Connections take turns, so that another client of the service waits for a few turns only."""
    raw = raw_handshake(target, session.id)
    flooding = threading.Thread(target=flood, args=(raw, small(0x89) * 10_000))
    with open_channels(target, session.id) as channels:
        flooding.start()
        while flooding.is_alive():
            assert channels.run("1").status == "ok"
    raw.close()


def test_fragments_of_a_message_are_limited(target: Service, session: Session) -> None:
    """A message of many tiny fragments closes the connection, and the code says why."""
    raw = raw_handshake(target, session.id)
    with contextlib.suppress(OSError):
        raw.sendall(EMPTY_TEXT_START + small(0x00) * 3000)
    assert close_code(raw) == 1008
    raw.close()


def test_message_in_fragments_arrives(target: Service, session: Session) -> None:
    """Several hundred fragments, and pings between them, are one message."""
    raw = raw_handshake(target, session.id)
    text = json.dumps({"channel": "control", "header": {"msg_id": "a", "msg_type": "odd_request"}}).encode()
    pieces = [text[at : at + 1] for at in range(len(text))]
    raw.sendall(EMPTY_TEXT_START)
    for piece in pieces:
        raw.sendall(small(0x00, piece) + small(0x89, piece))
    raw.sendall(small(0x80))
    data = b""
    while b"odd_reply" not in data:
        piece = raw.recv(1 << 16)
        assert piece
        data += piece
    raw.close()


def hold(service: Service, session: Session, stack: ExitStack, size: int) -> socket.socket:
    """Open a WebSocket and send the start of a message without its end."""
    raw = stack.enter_context(raw_handshake(service, session.id))
    raw.sendall(masked(1, b" " * size, length=size + 1))
    return raw


def test_unfinished_messages_are_bounded_together(target: Service, session: Session) -> None:
    """Clients that send a part of a large message hold a few megabytes together. The others are closed."""
    with unharmed(target), ExitStack() as stack:
        sockets = [hold(target, session, stack, 3 * MEGABYTE) for _ in range(2)]
        late = [stack.enter_context(raw_handshake(target, session.id)) for _ in range(2)]
        codes: list[int | None] = []

        def send_and_wait(raw: socket.socket) -> None:
            with contextlib.suppress(OSError):
                raw.sendall(masked(1, b" " * 3 * MEGABYTE, length=3 * MEGABYTE + 1))
            codes.append(close_code(raw))

        threads = [threading.Thread(target=send_and_wait, args=(raw,)) for raw in late]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [1013, 1013]
        assert len(sockets) == 2
    assert soon(lambda: can_send(target, session))


def can_send(service: Service, session: Session) -> bool:
    """Return whether a large message is handled."""
    with open_channels(service, session.id) as channels:
        channels.send("odd_request", {"x": "y" * 3 * MEGABYTE}, "control")
        return channels.until_kind("odd_reply").get("channel") == "control"
