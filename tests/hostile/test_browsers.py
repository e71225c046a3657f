"""Web pages that attack a service without keys through the browser of somebody who runs it."""

import json
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.usefixtures("canary")

EVIL = "evil.example"
SIGNS = (
    f"Origin: http://{EVIL}",
    f"Referer: http://{EVIL}/page",
    "Accept-Language: en",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
)
"""Headers by which a browser is recognized. Each alone is enough."""
UNKNOWN_HOSTS = (
    EVIL,
    f"{EVIL}:8000",
    f"{EVIL}.",
    EVIL.upper(),
    "xn--vl-dka.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "com.",
    "[::1",
    "[evil.example]",
    f"localhost@{EVIL}",
    f"localhost, {EVIL}",
    "wild.example",
    "badallowed.example",
    "",
)
KNOWN_HOSTS = (
    "127.0.0.1:1",
    "10.1.2.3",
    "localhost",
    "LOCALHOST.:8000",
    "[::1]:8000",
    "[fe80::1%eth0]:8000",
    "code-interpreter:8000",
    "app.localhost",
    "interpreter.tools.svc:80",
    "interpreter.tools.svc.cluster.local",
    "allowed.example",
    "Allowed.Example.:443",
    "one.wild.example",
    socket.gethostname(),
)
READ = (
    *("/", "/page/app.js", "/page/settings.json", "/docs", "/openapi.json", "/metrics", "/ready", "/health"),
    *(
        "/v1/files",
        "/v1/sessions",
        "/v1/executions/x",
        "/api/kernels",
        "/api/kernelspecs",
        "/mcp",
        "/nowhere",
    ),
)
FORM = 'multipart/form-data; boundary="b"'
UPLOAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
CODE = json.dumps({"code": "print(1)"}).encode()
WRITE: tuple[tuple[str, str, bytes], ...] = (
    ("/v1/files", FORM, UPLOAD),
    ("/v1/execute", "text/plain", CODE),
    ("/v1/execute", "application/json", CODE),
    ("/v1/execute", "application/x-www-form-urlencoded", CODE),
    ("/v1/sessions", "text/plain", b"{}"),
    ("/v1/sessions", "", b""),
    ("/api/kernels", "text/plain", b"{}"),
    ("/mcp", "application/json", b"{}"),
)
"""Paths, media types and bodies that a page may send without asking first, and others."""


def exchange(service: Service, first_line: str, headers: Iterable[str], body: bytes = b"") -> tuple[int, Any]:
    """Send a request as it is, and return the status and the body of the answer."""
    host, port = service.base_url.removeprefix("http://").split(":")
    head = "\r\n".join([first_line, *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""])
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode("latin-1") + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    start, _, content = answer.partition(b"\r\n\r\n")
    is_json = b"content-type: application/json" in start.lower() and b"chunked" not in start.lower()
    return int(start.split()[1]), json.loads(content) if is_json and content else content


def code(service: Service, first_line: str, *headers: str, body: bytes = b"") -> str:
    """Return the error code of the answer; `served` if there is none of a refused browser."""
    status, answer = exchange(service, first_line, headers, body)
    found: str = answer["code"] if isinstance(answer, dict) and "code" in answer else "served"
    assert (status == 403) == (found in ("host_not_allowed", "foreign_origin", "origin_refused"))
    return found if status == 403 else "served"


def held(service: Service) -> tuple[Any, ...]:
    """Return what a successful attack would have changed."""
    listing = service.api.http.get("/v1/files").json()["files"]
    sessions = {found["session_id"] for found in service.api.http.get("/v1/sessions").json()["sessions"]}
    executions = [
        line
        for line in service.api.http.get("/metrics").text.splitlines()
        if line.startswith('code_interpreter_executions_total{kind="execute"')
    ]
    return len(listing), sessions, executions


@pytest.fixture
def unchanged(target: Service) -> Iterator[None]:
    """Check after the test that no file, session or execution was made."""
    before = held(target)
    yield
    assert held(target) == before


def test_name_of_a_foreign_page_is_refused_on_every_path(target: Service, unchanged: None) -> None:
    """In a DNS rebinding attack, Origin and Host agree, and name the server of the page."""
    wrong: list[tuple[str, str]] = []
    for sign in SIGNS:
        for path in READ:
            found = code(target, f"GET {path} HTTP/1.1", f"Host: {EVIL}", sign)
            wrong += [] if found == "host_not_allowed" else [(sign, path)]
        for path, kind, body in WRITE:
            headers = [f"Host: {EVIL}", sign, *([f"Content-Type: {kind}"] if kind else [])]
            found = code(target, f"POST {path} HTTP/1.1", *headers, body=body)
            wrong += [] if found == "host_not_allowed" else [(sign, f"POST {path} {kind}")]
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            status, _ = exchange(target, f"{method} /v1/files/x HTTP/1.1", [f"Host: {EVIL}", sign])
            wrong += [] if status == 403 else [(sign, method)]
    assert wrong == []


def test_host_of_a_browser_is_known_or_refused(target: Service) -> None:
    """Spellings of foreign names are refused. Addresses and local names are served."""
    browser = "Accept-Language: en"
    wrong = [
        host
        for host in UNKNOWN_HOSTS
        if code(target, "GET /v1/files HTTP/1.1", f"Host: {host}", browser) != "host_not_allowed"
    ]
    wrong += [
        host
        for host in KNOWN_HOSTS
        if code(target, "GET /v1/files HTTP/1.1", f"Host: {host}", browser, f"Origin: http://{host}")
        != "served"
    ]
    assert wrong == []


def test_other_places_of_a_host_do_not_hide_a_foreign_name(target: Service) -> None:
    """A second Host, the target of the request, a missing Host. Headers of proxies name no host."""
    local, browser = "Host: localhost", "Accept-Language: en"
    first = "GET /v1/files HTTP/1.1"
    found = {
        "two hosts": code(target, first, local, f"Host: {EVIL}", browser),
        "two hosts, the other way": code(target, first, f"Host: {EVIL}", local, browser),
        "absolute target": code(target, f"GET http://{EVIL}/v1/files HTTP/1.1", local, browser),
        "absolute target, own port": code(
            target, f"GET http://{EVIL}:8000/v1/files HTTP/1.1", local, browser
        ),
        "no host": code(target, "GET /v1/files HTTP/1.0", browser),
        "forwarded": code(target, first, f"Host: {EVIL}", "X-Forwarded-Host: localhost", browser),
        "forwarded, new": code(target, first, f"Host: {EVIL}", "Forwarded: host=localhost", browser),
    }
    assert found == dict.fromkeys(found, "host_not_allowed")
    assert code(target, first, local, f"X-Forwarded-Host: {EVIL}", browser) == "served"
    assert code(target, "GET http://localhost/v1/files HTTP/1.1", local, browser) == "served"


def test_refusal_names_the_host_and_the_setting(target: Service) -> None:
    """The owner of the name learns how to allow it. A long name is cut."""
    for host in ("code.example.org", "a" * 5000 + ".example"):
        status, answer = exchange(target, "GET / HTTP/1.1", [f"Host: {host}", "Accept-Language: en"])
        assert status == 403
        assert host[:100] in answer["detail"] and "ALLOWED_HOSTS" in answer["detail"]
        assert len(answer["detail"]) < 400


@pytest.mark.parametrize(
    "origin",
    [f"http://{EVIL}", "null", "http://localhost:3000", "http://localhost", "https://127.0.0.1:8000"],
)
def test_page_of_another_server_cannot_write(target: Service, unchanged: None, origin: str) -> None:
    """The page uses a known name, and requests that need no permission. A page at another port is foreign."""
    wrong: list[tuple[str, str]] = []
    for path, kind, body in WRITE:
        headers = ["Host: localhost:8000", f"Origin: {origin}", *([f"Content-Type: {kind}"] if kind else [])]
        expected = "foreign_origin"
        if path == "/mcp":
            expected = "origin_refused" if origin in (f"http://{EVIL}", "null") else "served"
        found = code(target, f"POST {path} HTTP/1.1", *headers, body=body)
        wrong += [] if found == expected else [(f"{path} {kind}", found)]
    for path in READ:
        if path != "/mcp":
            found = code(target, f"GET {path} HTTP/1.1", "Host: localhost:8000", f"Origin: {origin}")
            wrong += [] if found == "foreign_origin" else [(path, found)]
    assert wrong == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_page_of_another_server_without_an_origin_can_only_link(
    target: Service, unchanged: None, site: str
) -> None:
    """A link is followed. Forms, images and scripts of other pages are refused."""
    host, site = "Host: localhost:8000", f"Sec-Fetch-Site: {site}"
    for path, kind, body in WRITE:
        for mode in ("navigate", "no-cors"):
            headers = [host, site, f"Sec-Fetch-Mode: {mode}", f"Content-Type: {kind or 'text/plain'}"]
            assert code(target, f"POST {path} HTTP/1.1", *headers, body=body) == "foreign_origin"
        old = [host, f"Referer: http://{EVIL}/form", f"Content-Type: {kind or 'text/plain'}"]
        assert code(target, f"POST {path} HTTP/1.1", *old, body=body) == "foreign_origin"
    for path in READ:
        assert code(target, f"GET {path} HTTP/1.1", host, site, "Sec-Fetch-Mode: no-cors") == "foreign_origin"
    assert code(target, "GET / HTTP/1.1", host, site, "Sec-Fetch-Mode: navigate") == "served"


def handshake(service: Service, session: Session, *headers: str) -> tuple[int, Any]:
    """Ask for a WebSocket to the session's kernel."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    host, port = service.base_url.removeprefix("http://").split(":")
    head = "\r\n".join([f"GET /api/kernels/{session.id}/channels HTTP/1.1", *headers, *upgrade, key, "", ""])
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)
    start, _, content = answer.partition(b"\r\n\r\n")
    status = int(start.split()[1])
    return status, json.loads(content)["code"] if status == 403 else ""


def test_web_socket_of_a_foreign_page_is_refused(target: Service, session: Session) -> None:
    """By its host, by its origin, and without an origin. Programs and the service's own page connect."""
    agent = "User-Agent: Mozilla/5.0"
    refused = {
        (f"Host: {EVIL}", f"Origin: http://{EVIL}"): "host_not_allowed",
        (f"Host: {EVIL}", agent): "host_not_allowed",
        ("Host: localhost", f"Host: {EVIL}", f"Origin: http://{EVIL}"): "host_not_allowed",
        ("Host: localhost", f"Origin: http://{EVIL}"): "foreign_origin",
        ("Host: localhost", "Origin: null", agent): "foreign_origin",
        ("Host: localhost:8000", "Origin: http://localhost:3000"): "foreign_origin",
        ("Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: websocket"): "foreign_origin",
    }
    found = {headers: handshake(target, session, *headers) for headers in refused}
    assert found == {headers: (403, refusal) for headers, refusal in refused.items()}
    served = (
        ("Host: code-interpreter.internal:8000", "User-Agent: Python/3.13 websockets/15"),
        ("Host: localhost:8000", "Origin: http://localhost:8000", agent),
        ("Host: code-interpreter", agent),
    )
    assert {headers: handshake(target, session, *headers)[0] for headers in served} == dict.fromkeys(
        served, 101
    )


PROGRAMS = (
    ("User-Agent: python-requests/2.32.3", "Accept: */*"),
    ("User-Agent: python-httpx/0.28.1", "Accept: */*"),
    ("User-Agent: curl/8.14.1", "Accept: */*"),
    ("User-Agent: kube-probe/1.33", "Accept: */*"),
    ("User-Agent: ELB-HealthChecker/2.0",),
    ("User-Agent: GoogleHC/1.0",),
    ("User-Agent: Tornado-Async-Client/6.5", "Accept: */*"),
    (),
)


def test_programs_need_no_configuration(target: Service) -> None:
    """Programs are served under every name, with every method and media type."""
    for program in PROGRAMS:
        for host in ("code-interpreter:8000", "interpreter.tools", "code.example.org", "10.2.3.4:8000"):
            for path in READ:
                assert code(target, f"GET {path} HTTP/1.1", f"Host: {host}", *program) == "served"
        for path, kind, body in WRITE[:2]:
            headers = ["Host: code-interpreter.internal", f"Content-Type: {kind}", *program]
            assert code(target, f"POST {path} HTTP/1.1", *headers, body=body) == "served"
        assert code(target, "GET /health HTTP/1.0", *program) == "served"
