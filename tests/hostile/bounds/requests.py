"""Attacks on what is kept of a request before a route has it: heads, framing, connections, bodies."""

import json
import select
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Final

import httpx

from tests.hostile.bounds import Attack
from tests.hostile.bounds.raw import chunk, connected, head, send_endlessly, status
from tests.support.api import problem
from tests.support.process import Service
from tests.support.session import new_session

MEGABYTE: Final = 1 << 20
JSON: Final = "Content-Type: application/json"
TYPE: Final = {"Content-Type": "application/json"}
MULTIPART: Final = {"Content-Type": "multipart/form-data; boundary=b"}
GET: Final = b"GET /health HTTP/1.1\r\nHost: x\r\n"


def endless_heads(service: Service) -> None:
    """A header, headers, an address and empty lines without end are refused or disconnected."""
    pieces = {
        b"GET /health HTTP/1.1\r\nX-A: ": b"x" * 65536,
        b"GET /health HTTP/1.1\r\nX-B: y\r\n": b"a:\r\n" * 16384,
        b"GET /": b"x" * 65536,
        b"": b"\r\n" * 32768,
        b"G": b"\r\n" * 32768,
    }
    for begin, piece in pieces.items():
        assert status(send_endlessly(service, begin, piece, 45 * MEGABYTE)) in (400, 431), begin


def many_headers(service: Service) -> None:
    """Three hundred connections cannot each hold ten thousand header fields."""
    fields = b"".join(b"a%d:\r\n" % number for number in range(3000))
    with ThreadPoolExecutor(8) as threads:
        clients = list(threads.map(lambda _: _connect(service), range(300)))
        try:
            list(threads.map(lambda client: _send(client, GET + fields), clients))
        finally:
            for client in clients:
                client.close()


def endless_framing(service: Service) -> None:
    """Trailers, chunk extensions and chunks that are mostly extension are refused, or disconnected."""
    post = head("POST", "/v1/execute", JSON)
    pieces = {
        post + b"2\r\n{}\r\n0\r\n": b"a:b\r\n" * 13107,
        post + b"2\r\n{}\r\n0\r\nX-Trailer: ": b"x" * 65536,
        post + b"2;a=": b"x" * 65536,
        post: (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 64,
        post + b"0" * 16: b"0" * 65536,
    }
    for begin, piece in pieces.items():
        assert status(send_endlessly(service, begin, piece, 45 * MEGABYTE)) in (0, 400, 422, 431), begin


def endless_framing_after_an_answer(service: Service) -> None:
    """The service drops all data after a request that is answered early."""
    post = head("POST", "/nothing", JSON)
    pieces = {
        post + b"0\r\n": b"a:b\r\n" * 13107,
        post: (b"1\r\n \r\n") * 10000,
        post + b"2;a=": b"x" * 65536,
        GET + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n": b"\0" * 65536,
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n": b"\0" * 65536,
    }
    for begin, piece in pieces.items():
        send_endlessly(service, begin, piece, 20 * MEGABYTE)


def pipelined_requests(service: Service) -> None:
    """The service answers a few of 200,000 requests that are sent at once, then closes the connection."""
    answer = send_endlessly(service, b"", (GET + b"\r\n") * 2000, 100 * 2000 * len(GET))
    assert status(answer) == 200


def many_connections(service: Service) -> None:
    """Connections beyond MAX_CONNECTIONS replace those that wait, however much those have sent."""
    with ThreadPoolExecutor(8) as threads:
        clients = list(threads.map(lambda _: _connect(service), range(800)))
        try:
            list(threads.map(lambda client: _send(client, GET + b"X-A: " + b"x" * 30_000), clients))
            with httpx.Client() as other:
                assert other.get(f"{service.base_url}/health").status_code == 200
        finally:
            for client in clients:
                client.close()


def _connect(service: Service, receive_bytes: int = 0) -> socket.socket:
    """Open a connection; `receive_bytes` is the size of its receive buffer, 0 for the usual one."""
    address = httpx.URL(service.base_url)
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(30)
    client.connect((address.host, address.port))
    return client


def _send(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        client.sendall(data)


def large_bodies(service: Service) -> None:
    """Every call that reads a body refuses 400 MB of it early; the others ignore it."""
    with new_session(service) as session:
        document = service.api.http.get("/openapi.json").json()
        for path, operations in document["paths"].items():
            # Most calls get an unknown id: the body is refused before anything is looked up.
            real = session.id if "{path}" in path else "0" * 32
            address = path.replace("{session_id}", real).replace("{", "").replace("}", "")
            for method, operation in operations.items():
                reads = "requestBody" in operation
                for length in (f"Content-Length: {400 * MEGABYTE}", "Transfer-Encoding: chunked"):
                    piece = b" " * 65536 if "Length" in length else chunk(b" " * 65536)
                    lines = [f"{method.upper()} {address} HTTP/1.1", "Host: x", length, _type_of(operation)]
                    answer = _first_answer(service, "\r\n".join([*lines, "", ""]).encode(), piece)
                    assert status(answer) in ((413, 422) if reads else range(200, 500)), (lines, answer)


def _type_of(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {"application/json": {}})
    boundary = "; boundary=b" if "multipart/form-data" in content else ""
    return f"Content-Type: {next(iter(content))}{boundary}"


def _first_answer(service: Service, begin: bytes, piece: bytes) -> bytes:
    """Send a request with an endless body until the service answers, and return the head of the answer."""
    with connected(service) as client:
        client.sendall(begin)
        for _ in range(400 * MEGABYTE // len(piece)):
            if select.select([client], [], [], 0)[0]:
                break
            _send(client, piece)
        return client.recv(65536)


def many_values(service: Service) -> None:
    """A body of a million empty lists, or of a million fields, is refused before it is parsed."""
    bodies = {
        "lists": b'{"code": "1", "files": [' + b"[]," * 1_300_000 + b"[]]}",
        "objects": b'{"code": "1", "files": [' + b'{"":1},' * 550_000 + b"{}]}",
        "texts": b'{"code": "1", "files": [' + b'"",' * 1_300_000 + b'""]}',
        "quotes": b'{"code": ' + b'"' * 4_000_000 + b"}",
        "backslashes": b'{"code": "' + b"\\" * 4_000_001 + b'"}',
        "numbers": b"[" + b"1," * 2_000_000 + b"1]",
    }
    for path in ("/v1/execute", "/v1/sessions", "/mcp"):
        for name, body in bodies.items():
            fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            response = service.api.http.post(path, content=body, headers=fields)
            assert response.status_code in (413, 422), (path, name, response.text[:200])


def many_large_bodies(service: Service) -> None:
    """Forty requests of 4 MB at the same time are not held together."""
    code = "import time; time.sleep(1) #" + "\u00e9" * 1_900_000 + "\U0001f600"
    body = json.dumps({"code": code, "timeout_ms": 10_000}, ensure_ascii=False).encode()

    def call(_: int) -> int:
        with httpx.Client(base_url=service.base_url, timeout=60) as client:
            return client.post("/v1/execute", content=body, headers=TYPE).status_code

    with ThreadPoolExecutor(40) as threads:
        assert set(threads.map(call, range(40))) <= {200, 429}


def many_parts(service: Service) -> None:
    """Parts, their headers, their names and what is around them are refused in excess, or dropped."""
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n\r\n'
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n'
    bodies = {
        "empty parts": b"--b\r\n\r\n\r\n" * 400_000 + file + b"--b--\r\n",
        "parts after the file": file + b"--b\r\n\r\n\r\n" * 400_000 + b"--b--\r\n",
        "named parts": b"".join(part % (b"%d" % number) for number in range(60_000)) + file + b"--b--\r\n",
        "headers": b"--b\r\n" + b"a:b\r\n" * 800_000 + b"\r\n" + file + b"--b--\r\n",
        "a long name": part % (b"x" * 4_000_000) + file + b"--b--\r\n",
        "parameters": b"--b\r\nContent-Disposition: form-data" + b";a=b" * 1000 + b"\r\n\r\n" + file,
        "lines before": b"\r\n" * 2_000_000 + file + b"--b--\r\n",
        "padding": b"--b" + b" " * 4_000_000 + b"\r\n",
        "padding of a boundary": file + b"--b" + b" \t" * 2_000_000 + b"\r\n",
        "half boundaries": file + b"\r\n--" * 1_000_000 + b"\r\n--b--\r\n",
        "lines after": file + b"--b--\r\n" + b"\r\n--b" * 800_000,
        "another field": part[:-2] % b"x" + b"x" * 4_000_000 + b"\r\n" + file + b"--b--\r\n",
    }
    for name, body in bodies.items():
        response = service.api.http.post("/v1/files", content=body, headers=MULTIPART)
        assert response.status_code in (201, 413, 422), (name, response.text[:200])


def slow_readers(service: Service) -> None:
    """Forty clients that do not read a download are not each held a file."""
    file_id = service.api.upload(bytes(4 * MEGABYTE))
    clients = []
    try:
        for _ in range(40):
            client = _connect(service, 4096)
            _send(client, f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            clients.append(client)
        time.sleep(1)
    finally:
        for client in clients:
            client.close()


def long_list(service: Service) -> None:
    """A hundred thousand stored files are listed in pages, without a limit as well."""
    path = service.storage / "registry.sqlite3"
    names = "file_id, filename, size_bytes, sha256, media_type, created_at, origin, owner"
    row = "hex(randomblob(16)), 'f', 1, '', 'text/plain', ?, 'upload', 'default'"
    add = f"INSERT INTO files ({names}) VALUES ({row})"
    with closing(sqlite3.connect(path, timeout=30)) as registry, registry:
        registry.executemany(add, ((float(number),) for number in range(100_000)))
    try:
        page = service.api.http.get("/v1/files").json()
        assert len(page["files"]) == 1000
        assert service.api.http.get("/v1/files", params={"after": page["next"]}).json()["next"]
        assert problem(service.api.http.get("/v1/files", params={"limit": 100_000}))
    finally:
        with closing(sqlite3.connect(path, timeout=30)) as registry, registry:
            registry.execute("DELETE FROM files WHERE created_at < 1000000")


ATTACKS: Final[dict[str, Attack]] = {
    "head of a request": endless_heads,
    "header fields of a request": many_headers,
    "chunk sizes, chunk extensions and trailers of a body": endless_framing,
    "what a client sends after an early answer": endless_framing_after_an_answer,
    "requests that a client sends ahead": pipelined_requests,
    "connections": many_connections,
    "body of a request": large_bodies,
    "values of a JSON body": many_values,
    "bodies of all requests together": many_large_bodies,
    "parts of an upload": many_parts,
    "response that a client does not read": slow_readers,
    "page of the list of files": long_list,
}
