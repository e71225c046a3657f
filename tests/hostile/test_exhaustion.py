"""Tests of exhaustion: code uses up a container from inside, and clients use up the service from outside."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from tests.conftest import docker_only
from tests.hostile.conftest import MEGABYTE, PATIENCE_SEC, Canary, soon
from tests.support.api import problem
from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.usefixtures("canary")

INSIDE = Path(__file__).parents[1] / "inside"

# From inside -------------------------------------------------------------------------------------

BOMBS = {
    "processes": "while True:\n    try: os.fork()\n    except OSError: pass",
    "processes that leave their parents": """
        while True:
            try:
                if os.fork() == 0: os.setsid()
            except OSError: pass
    """,
    "zombies": """
        while True:
            try:
                if os.fork() == 0: os._exit(0)
            except OSError: pass
    """,
    "threads": """
        while True:
            try: threading.Thread(target=time.sleep, args=(60,)).start()
            except RuntimeError: pass
    """,
    "memory": "hoard = []\nwhile True: hoard.append(bytearray(b'x') * 20_000_000)",
    "memory in a child": """
        if os.fork() == 0:
            hoard = []
            while True: hoard.append(bytearray(b'x') * 20_000_000)
        while True: time.sleep(1)
    """,
    "memory in many children": """
        for _ in range(20):
            if os.fork() == 0:
                hoard = bytearray(b'x') * 30_000_000
                time.sleep(60)
        time.sleep(60)
    """,
    "shared memory": """
        hoard = []
        while True:
            hoard.append(mmap.mmap(-1, 20_000_000))
            hoard[-1].write(b'x' * 20_000_000)
    """,
    "memory files": """
        while True: os.write(os.memfd_create('x'), b'x' * 20_000_000)
    """,
    "time, with interrupts ignored": """
        signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while True: pass
    """,
    "time in every process": """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for _ in range(6): os.fork()
        while True: pass
    """,
    "descriptors": """
        held = []
        try:
            while True: held.append(os.dup(0))
        except OSError: pass
        time.sleep(60)
    """,
    "sockets and pipes": """
        held = []
        try:
            while True: held.append((socket.socketpair(), os.pipe()))
        except OSError: pass
        for pair, pipe in held:
            try:
                pair[0].setblocking(False)
                while True: pair[0].send(b'x' * 65536)
            except OSError: pass
        time.sleep(60)
    """,
    "locks and queues": """
        libc = ctypes.CDLL(None, use_errno=True)
        while libc.shmget(0, 1 << 20, 0o1600) >= 0: pass
        while libc.semget(0, 1, 0o1600) >= 0: pass
        while libc.msgget(0, 0o1600) >= 0: pass
        time.sleep(60)
    """,
    "text": "while True: print('x' * 100_000)",
    "text on both descriptors": "while True: os.write(1, b'x' * 100_000); os.write(2, b'y' * 100_000)",
    "single characters": "while True: os.write(1, b'x'); os.write(2, b'y')",
    "text from a child": "subprocess.run('yes & yes >&2', shell=True); time.sleep(60)",
}
"""Code that takes more and more of something and does not end by itself."""

IMPORTS = "import ctypes, mmap, os, signal, socket, subprocess, sys, threading, time\n"


ENDS = ("TimeoutExceeded", "MemoryLimitExceeded", "CpuTimeLimitExceeded", "KernelDied", "MemoryError")
COUNT = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')) < 8)"


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_ends_by_a_limit_or_its_timeout(session: Session, bomb: str) -> None:
    """Afterwards the session's kernel works, and none of the bomb's processes is left."""
    result = session.run(f"{IMPORTS}print('began')\n{dedent(bomb)}", timeout_ms=1500)
    assert result["error"]["name"] in ENDS, result["error"]
    assert result["stdout"].startswith("began\n")
    assert len(result["stdout"]) + len(result["stderr"]) < 2.2 * MEGABYTE
    if result["state"] == "kept":
        session.restart()
    assert session.printed(COUNT) == "True"


@pytest.mark.parametrize("name", ["processes that leave their parents", "memory", "text"])
def test_a_bomb_in_a_one_shot_execution_costs_its_container(target: Service, name: str) -> None:
    """The bomb ends as in a session, and its container is replaced."""
    result = target.api.run(f"{IMPORTS}{dedent(BOMBS[name])}", timeout_ms=600)
    assert result["error"]["name"] in ENDS, result["error"]
    assert result["state"] == "discarded"


@docker_only("a pod's folders have no limit of files: test_too_many_files_end_the_call_and_can_be_deleted")
def test_full_disks_leave_room_for_the_next_call(session: Session) -> None:
    """Four full disks, first of bytes and then of empty files, only raise errors in the code."""
    fill = (INSIDE / "fill.py").read_text().replace("os.remove(path)", "pass")
    full = session.run(fill, timeout_ms=20_000)
    assert full["exit_code"] == 0, full["stderr"]
    files = """
        import os
        for folder in ("/tmp", os.path.expanduser("~"), "/dev/shm", "/workspace"):
            count = 0
            try:
                while True:
                    os.close(os.open(f"{folder}/n{count}", os.O_CREAT)); count += 1
            except OSError as error: print(error.strerror, count > 10_000)
    """
    result = session.run(dedent(files), timeout_ms=25_000)
    assert result["stdout"] == "No space left on device True\n" * 4, result["stderr"]
    assert session.printed("print('still here')") == "still here"
    session.bash("find /tmp /dev/shm ~ . -mindepth 1 -user user -delete 2>/dev/null; true")


# From outside ------------------------------------------------------------------------------------


@contextmanager
def connection(service: Service, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    """Open a TCP connection to the service; `receive_bytes` is the size of its receive buffer."""
    address = httpx.URL(service.base_url)
    with socket.socket() as client:
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(60)
        client.connect((address.host, address.port))
        yield client


def request(service: Service, path: str, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a POST of JSON, or a GET if there is no body. `length` replaces the true Content-Length."""
    method = b"POST" if body or length else b"GET"
    size = len(body) if length is None else length
    head = b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (method, path.encode(), size) + body


def is_closed(client: socket.socket) -> bool:
    """Return whether the service closes the connection within 20 seconds. Read what it sends before."""
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_a_client_that_does_not_read_a_stream_holds_no_kernel(target: Service, canary_client: Canary) -> None:
    """The code ends and its container is removed. Then the service closes the idle reader's connection."""
    code = b"{\"code\": \"for i in range(40): display(dict(a='x' * 200000)); print('y' * 20000)\"}"
    with connection(target, 4096) as client:
        client.sendall(request(target, "/v1/execute/stream", code))
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        assert soon(canary_client.is_at_rest), "the reader holds the container"
        time.sleep(max(0, PATIENCE_SEC + 1 - (time.monotonic() - began)))
        assert is_closed(client)


def test_a_client_that_does_not_read_a_download_is_disconnected(target: Service, session: Session) -> None:
    """This holds for downloads of a stored file and of a file in a session's workspace."""
    content = bytes(4 * MEGABYTE)
    session.put("large", content)
    addresses = [f"/v1/files/{target.api.upload(content)}", f"{session.url}/files/large"]
    with ThreadPoolExecutor() as threads:

        def stall(address: str) -> int:
            with connection(target, 4096) as client:
                client.sendall(request(target, address))
                time.sleep(PATIENCE_SEC + 1.5)
                received = 0
                try:
                    while data := client.recv(65536):
                        received += len(data)
                except OSError:
                    pass
                return received

        assert max(threads.map(stall, addresses)) < len(content)


def test_two_hundred_callers_are_answered_or_refused(target: Service) -> None:
    """Each caller gets its own answer, or is refused at once with `Retry-After`."""

    def call(client: httpx.Client, number: int) -> tuple[int, str]:
        code = f"import time; time.sleep(0.3); print({number})"
        response = client.post("/v1/execute", json={"code": code, "timeout_ms": 10_000})
        if response.status_code == 200:
            assert response.json()["stdout"] == f"{number}\n"
        else:
            assert problem(response)["code"] == "all_kernels_busy"
            assert int(response.headers["retry-after"]) > 0
        return response.status_code, str(number)

    every = httpx.Limits(max_connections=200)
    with (
        httpx.Client(base_url=target.base_url, timeout=60, limits=every) as client,
        ThreadPoolExecutor(200) as threads,
    ):
        statuses = [status for status, _ in threads.map(partial(call, client), range(200))]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 8


def test_callers_that_disconnect_leave_nothing(target: Service) -> None:
    """Forty clients that disconnect before the answer, at any stage, affect only their own calls."""
    body = b'{"code": "import time; time.sleep(1)", "timeout_ms": 1500}'

    def leave(number: int) -> None:
        path = ("/v1/execute", "/v1/execute/stream", "/v1/files", "/health")[number % 4]
        with connection(target) as client:
            whole = request(target, path, body)
            client.sendall(whole if number % 3 else whole[: len(whole) // 2])
            time.sleep(0.05 * (number % 7))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset

    with ThreadPoolExecutor(40) as threads:
        list(threads.map(leave, range(40)))


SLOW = {
    "nothing": b"",
    "half a head": b"POST /v1/execute HTTP/1.1\r\nHost: x\r\nX-",
    "half a body": b"POST /v1/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    b'Content-Type: application/json\r\n\r\n{"code": "',
    "half an upload": b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="slow"\r\n\r\n' + b"x" * 2_000_000,
    "half a chunk": b"POST /v1/execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/json\r\n\r\nffff\r\n{",
}
"""The bytes that a client sends before it stops sending."""


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
def test_many_unfinished_requests_are_disconnected(
    target: Service, canary_client: Canary, sent: bytes
) -> None:
    """Other clients are served meanwhile. After `CLIENT_TIMEOUT_SEC` the idle connections are closed."""
    count = 20 if len(sent) > 1000 else 150
    before = canary_client.descriptors()
    with ThreadPoolExecutor(8) as threads:
        address = httpx.URL(target.base_url)
        connect = lambda _: socket.create_connection((address.host, address.port), 10)  # noqa: E731
        clients = list(threads.map(connect, range(count)))
        try:
            list(threads.map(lambda client: client.sendall(sent), clients))
            assert soon(lambda: canary_client.descriptors() > before + count // 2)
            assert target.api.http.get("/health").json()["status"] == "ok"
            assert soon(lambda: canary_client.descriptors() < before + count // 4)
        finally:
            for client in clients:
                client.close()


def test_an_interrupted_upload_into_a_session_leaves_nothing(target: Service, session: Session) -> None:
    """Half an upload is no file of the session and takes no space there."""
    head = b"PUT %s/files/half HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    with connection(target) as client:
        client.sendall(head % session.url.encode() + b"x" * 2_000_000)
        assert is_closed(client)
    assert soon(lambda: session.printed("import os; print(os.listdir())") == "[]")
    assert session.files() == {}


def test_a_client_that_sends_byte_by_byte_is_disconnected(target: Service) -> None:
    """The timeout is for the whole head of a request, however steadily its bytes arrive."""
    with connection(target) as client:
        client.sendall(b"G")
        for _ in range(600):
            try:
                client.sendall(b"E")
            except OSError:
                return
            time.sleep(0.1)
    pytest.fail("the service still waits for the rest of the head")


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body with Transfer-Encoding: chunked."""
    return b"%x\r\n%s\r\n" % (len(data), data)


JSON_HEAD = (
    b"POST /v1/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
UPLOAD_HEAD = (
    b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
PART = chunk(b'--b\r\nContent-Disposition: form-data; name="file"; filename="endless"\r\n\r\n')

ENDLESS = {
    "a header": (b"GET /health HTTP/1.1\r\nX-A: ", b"x" * 65536, 431),
    "headers": (b"GET /health HTTP/1.1\r\n", b"X-A: b\r\n" * 8000, 431),
    "an address": (b"GET /", b"x" * 65536, 431),
    "a body": (JSON_HEAD, chunk(b" " * 65536), 413),
    "an upload": (UPLOAD_HEAD + PART, chunk(b"x" * 65536), 413),
    "part headers": (UPLOAD_HEAD + chunk(b"--b\r\nX-A:"), chunk(b"x" * 65536), 422),
}
"""The beginning of each request, the piece that it repeats without end, and the expected status."""


@pytest.mark.parametrize(("begin", "piece", "status"), ENDLESS.values(), ids=ENDLESS.keys())
def test_an_endless_request_is_refused(target: Service, begin: bytes, piece: bytes, status: int) -> None:
    """The service refuses the request and does not keep its fifty megabytes."""
    with connection(target) as client:
        answers: list[int] = []

        def read() -> None:
            response = http.client.HTTPResponse(client)
            response.begin()
            answers.append(response.status)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        client.sendall(begin)
        try:
            for _ in range(50 * MEGABYTE // len(piece)):
                if answers:
                    break
                client.sendall(piece)
        except OSError:
            pass
        reader.join(60)
    assert answers == [status]
