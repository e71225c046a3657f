"""Records the traffic between a service and its kernels, and finds what is readable in it."""

import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.process import Service
from tests.support.session import new_session

_ALL_PROTOCOLS = 0x0003
_BRIDGE = "docker0"


@contextmanager
def _tapped() -> Iterator[bytearray]:
    """Record all traffic of the bridge during the block."""
    heard, over = bytearray(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        tap.bind((_BRIDGE, 0))
        tap.settimeout(0.1)

        def listen() -> None:
            while not over.is_set():
                try:
                    heard.extend(tap.recv(1 << 16))
                except TimeoutError:
                    continue

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield heard
            time.sleep(0.3)
        finally:
            over.set()
            listener.join()


def overheard(service: Service) -> set[str]:
    """Return what was readable on docker0 of a call: `code`, `text`, `display`, `file` or `token`."""
    words = {what: uuid.uuid4().hex for what in ("code", "text", "display", "file")}
    code = (
        f"# {words['code']}\n"
        f"print(''.join(reversed('{words['text'][::-1]}')))\n"
        f"from IPython.display import display, HTML\n"
        f"display(HTML(''.join(reversed('{words['display'][::-1]}'))))"
    )
    with _tapped() as heard, new_session(service) as session:
        session.put("given.txt", words["file"].encode())
        result = session.run(code)
        assert result["stdout"] == words["text"] + "\n"
        assert words["display"] in str(result["outputs"])
    assert len(heard) > 1000, "nothing was heard at all"
    with sqlite3.connect(service.storage / "registry.sqlite3") as registry:
        tokens = [row[0] for row in registry.execute("SELECT token FROM containers")]
    found = {what for what, word in words.items() if word.encode() in heard}
    return found | {"token" for token in tokens if token.encode() in heard}


ALL = frozenset({"code", "text", "display", "file", "token"})
