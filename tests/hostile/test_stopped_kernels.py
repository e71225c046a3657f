"""Kernels that do not read or do not answer: what clients send them does not pile up in the service."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.channels import Channels, open_channels
from tests.hostile.bounds.watch import unharmed
from tests.hostile.conftest import soon
from tests.support.process import Service
from tests.support.session import Session, StandingSession

LARGE = "x" * 3_900_000
STOP = """
import os, signal, threading
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGSTOP)).start()
"""
ANSWER_NOTHING = """
import time
def answer_nothing(*_): time.sleep(1000)
kernel = get_ipython().kernel
kernel.do_complete = answer_nothing
"""
JupyterMessage = tuple[str, str, dict[str, Any]]
"""Type, channel and content."""
MESSAGES: dict[str, JupyterMessage] = {
    "kernel infos": ("kernel_info_request", "control", {"x": LARGE}),
    "kernel infos on shell": ("kernel_info_request", "shell", {"x": LARGE}),
    "completions": ("complete_request", "shell", {"code": LARGE, "cursor_pos": 1}),
    "comm messages": ("comm_msg", "shell", {"comm_id": "c", "data": {"x": LARGE}}),
    "cells": ("execute_request", "shell", {"code": f"#{LARGE}"}),
    "answers": ("input_reply", "stdin", {"value": LARGE}),
    "interrupts": ("interrupt_request", "control", {"x": LARGE}),
}


@pytest.fixture(scope="module", autouse=True)
def _opened(target: Service, standing: StandingSession) -> None:
    """Open a first WebSocket, so that what it takes is not counted as a leak."""
    with open_channels(target, standing.alive().id) as opened:
        opened.run("1")


@pytest.fixture
def stopped(session: Session) -> Iterator[Session]:
    """A session whose kernel has stopped itself. It gets a new kernel afterwards."""
    session.run(STOP)
    assert soon(lambda: has_stopped(session))
    yield session
    session.restart()


def has_stopped(session: Session) -> bool:
    """Return whether a process of the container is stopped."""
    listed = session.bash("cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') T '")
    return bool(listed["stdout"].strip() != "0")


def flood_messages(service: Service, session: Session, message: JupyterMessage, count: int) -> int:
    """Send a message many times on one WebSocket. Return the close code; 0 if it is still open."""
    kind, channel, content = message
    with open_channels(service, session.id) as channels:
        reading = threading.Thread(target=read_all, args=(channels,))
        reading.start()
        try:
            for _ in range(count):
                channels.send(kind, content, channel)
            channels.send("odd_request", {}, "control")
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else 1006
        finally:
            channels.socket.close()
            reading.join()
    return 0


def read_all(channels: Channels) -> None:
    """Read until the WebSocket is closed, and keep nothing."""
    with contextlib.suppress(ConnectionClosed):
        for _ in channels.socket:
            pass


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_large_messages_for_a_stopped_kernel_are_bounded(
    target: Service, stopped: Session, message: JupyterMessage
) -> None:
    """Requests over the limit are refused. A WebSocket with other messages over the limit is closed."""
    with unharmed(target):
        code = flood_messages(target, stopped, message, 40)
    has_reply = message[0].endswith("_request")
    assert code == 0 if has_reply or message[1] == "stdin" else code == 1013


def test_messages_for_a_stopped_kernel_are_dropped_with_their_websocket(
    target: Service, stopped: Session
) -> None:
    """Clients that connect again and again add nothing to what the service holds."""
    with unharmed(target):
        for message in (MESSAGES["kernel infos"], MESSAGES["comm messages"]) * 4:
            flood_messages(target, stopped, message, 3)


def test_websockets_of_a_stopped_kernel_are_bounded_together(target: Service, stopped: Session) -> None:
    """The limits hold for all clients of a kernel."""
    with unharmed(target), ExitStack() as stack:
        for kind, channel, content in list(MESSAGES.values())[:8]:
            channels = stack.enter_context(open_channels(target, stopped.id))
            with contextlib.suppress(ConnectionClosed):
                for _ in range(3):
                    channels.send(kind, content, channel)


def test_large_questions_of_the_api_to_a_stopped_kernel_are_bounded(
    target: Service, stopped: Session
) -> None:
    """A question that is not answered in time is released."""
    with unharmed(target):
        for path in ("complete", "inspect") * 4:
            stopped.call("POST", f"/{path}", json={"code": LARGE, "cursor_pos": 1})


def test_small_questions_that_are_never_answered_are_bounded(target: Service, session: Session) -> None:
    """Questions that the kernel does not answer are forgotten, the oldest first."""
    session.run(ANSWER_NOTHING)
    with open_channels(target, session.id) as channels, unharmed(target):
        for _ in range(1500):
            channels.send("complete_request", {"code": "impor", "cursor_pos": 5})
        channels.sync()
    session.restart()
    with open_channels(target, session.id) as channels:
        assert channels.run("1").status == "ok"
