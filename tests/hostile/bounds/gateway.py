"""Attacks on what is kept for WebSockets: frames, messages for kernels, and messages for clients."""

import contextlib
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.channels import open_channels
from tests.hostile.bounds import Attack
from tests.hostile.test_gateway import close_code, masked, raw_handshake
from tests.hostile.test_stopped_kernels import LARGE, MESSAGES, STOP, flood_messages, has_stopped
from tests.hostile.test_websocket_frames import EMPTY_TEXT_START, FLOODS, flood, hold, small
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.waiting import soon

MEGABYTE: Final = 1 << 20


def _on_a_session(attack: Callable[[Service, Session], None]) -> Attack:
    """Return an attack that uses a new session."""

    def run(service: Service) -> None:
        with new_session(service) as session:
            attack(service, session)

    return run


def _together(work: list[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def frames(service: Service, session: Session) -> None:
    """Eight WebSockets are flooded, each with other frames."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(raw_handshake(service, session.id)) for _ in range(8)]
        floods = list(FLOODS.values())
        _together(
            [
                lambda raw=raw, start=start, data=data: flood(raw, data, start=start)  # type: ignore[misc]
                for raw, (start, data) in zip(sockets, floods, strict=False)
            ]
        )


def fragments(service: Service, session: Session) -> None:
    """A message of thousands of empty fragments."""
    with raw_handshake(service, session.id) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(EMPTY_TEXT_START + small(0x00) * 3000)
        assert close_code(raw) == 1008


def unfinished_messages(service: Service, session: Session) -> None:
    """Eight WebSockets send the start of a large message."""
    with ExitStack() as stack:
        for _ in range(2):
            hold(service, session, stack, 3 * MEGABYTE)
        late = [stack.enter_context(raw_handshake(service, session.id)) for _ in range(6)]

        def send(raw: Any) -> None:
            with contextlib.suppress(OSError):
                raw.sendall(masked(1, b" " * 3 * MEGABYTE, length=3 * MEGABYTE + 1))

        _together([lambda raw=raw: send(raw) for raw in late])  # type: ignore[misc]
        assert close_code(late[0]) == 1013


def messages_for_kernels(service: Service, session: Session) -> None:
    """Large messages of all kinds for a kernel that has stopped itself."""
    session.run(STOP)
    assert soon(lambda: has_stopped(session))
    for message in MESSAGES.values():
        flood_messages(service, session, message, 10)


def questions(service: Service, session: Session) -> None:
    """Large questions of the API to a kernel that has stopped itself."""
    session.run(STOP)
    assert soon(lambda: has_stopped(session))
    for path in ("complete", "inspect") * 3:
        session.call("POST", f"/{path}", json={"code": LARGE, "cursor_pos": 1})


def messages_for_clients(service: Service, session: Session) -> None:
    """Clients that do not read while a cell shows a hundred megabytes, ten times."""
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(raw_handshake(service, session.id))
        with open_channels(service, session.id) as channels:
            for _ in range(10):
                code = "for i in range(10): display({'text/plain': str(i) * 1_000_000}, raw=True)"
                assert channels.run(code).status == "ok"


def connections(service: Service, session: Session) -> None:
    """A ninth WebSocket to a kernel, and clients that connect and leave."""
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(raw_handshake(service, session.id))
        with contextlib.suppress(InvalidStatus), open_channels(service, session.id):
            raise AssertionError("a ninth WebSocket was accepted")
    for _ in range(20):
        with contextlib.suppress(InvalidStatus, ConnectionClosed), open_channels(service, session.id) as left:
            left.begin("print('x' * 100_000)")


ATTACKS: Final[dict[str, Attack]] = {
    "frames of WebSocket clients": _on_a_session(frames),
    "fragments of a WebSocket message": _on_a_session(fragments),
    "large messages that WebSocket clients have begun to send": _on_a_session(unfinished_messages),
    "messages of WebSocket clients that wait for kernels": _on_a_session(messages_for_kernels),
    "messages that a kernel does not read": _on_a_session(questions),
    "messages that wait for WebSocket clients": _on_a_session(messages_for_clients),
    "WebSockets of a kernel, and clients that may connect again": _on_a_session(connections),
}
