"""Publishing from any thread of the user's code on one socket, which belongs to one thread.

That thread hears no KeyboardInterrupt, so that none cuts a message in two. ipykernel's own has an
event loop and three more sockets, for subprocesses and subscribers that are told nothing here; they
cost each kernel 6 ms of CPU.
"""

import threading
from queue import SimpleQueue
from typing import Any

import zmq


class Publisher:
    """Stands for its socket where messages are sent; they leave in order."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._messages: SimpleQueue[list[Any]] = SimpleQueue()
        threading.Thread(target=self._publish, name="IOPub", daemon=True).start()

    def _publish(self) -> None:
        while True:
            self._socket.send_multipart(self._messages.get())

    def send_multipart(self, frames: list[Any], *_: object, **__: object) -> None:
        """Send a message, soon."""
        self._messages.put(list(frames))
