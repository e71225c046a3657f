"""Records the traffic between a service and its kernels, and finds the readable secrets in it."""

import socket
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
def _recorded() -> Iterator[bytearray]:
    """Record all traffic of the bridge during the block."""
    traffic, stop = bytearray(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        tap.bind((_BRIDGE, 0))
        tap.settimeout(0.1)

        def record() -> None:
            while not stop.is_set():
                try:
                    traffic.extend(tap.recv(1 << 16))
                except TimeoutError:
                    continue

        recorder = threading.Thread(target=record)
        recorder.start()
        try:
            yield traffic
            time.sleep(0.3)
        finally:
            stop.set()
            recorder.join()


def readable_parts(service: Service) -> set[str]:
    """Run a cell, and return the parts of it that the traffic on docker0 shows; all parts are `ALL`."""
    words = {part: uuid.uuid4().hex for part in ("code", "text", "display", "file")}
    code = (
        f"# {words['code']}\n"
        f"print(''.join(reversed('{words['text'][::-1]}')))\n"
        f"from IPython.display import display, HTML\n"
        f"display(HTML(''.join(reversed('{words['display'][::-1]}'))))"
    )
    with _recorded() as traffic, new_session(service) as session:
        session.put("given.txt", words["file"].encode())
        result = session.run(code)
        assert result["stdout"] == words["text"] + "\n"
        assert words["display"] in str(result["outputs"])
        tokens = [token for token, _ in service.container_secrets().values()]
    assert len(traffic) > 1000, "no traffic was recorded"
    found = {part for part, word in words.items() if word.encode() in traffic}
    return found | {"token" for token in tokens if token.encode() in traffic}


ALL = frozenset({"code", "text", "display", "file", "token"})
