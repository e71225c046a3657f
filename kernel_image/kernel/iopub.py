"""Publishes messages from any thread of user code on the kernel's IOPub socket.

A zmq socket belongs to one thread. That thread gets no KeyboardInterrupt, so that none cuts a message
in two. ipykernel's own IOPub thread also has an event loop and three more sockets, for subprocesses
and subscribers that do not exist here. They cost each kernel 6 ms of CPU.
"""

import threading
from queue import SimpleQueue
from typing import Any

import zmq


class IOPubPublisher:
    """Takes the place of the IOPub socket: queues messages, which a thread sends in order."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._messages: SimpleQueue[list[Any]] = SimpleQueue()
        threading.Thread(target=self._send_all, name="IOPub", daemon=True).start()

    def _send_all(self) -> None:
        while True:
            self._socket.send_multipart(self._messages.get())

    def send_multipart(self, frames: list[Any], *_: object, **__: object) -> None:
        """Queue a message; return at once."""
        self._messages.put(list(frames))
