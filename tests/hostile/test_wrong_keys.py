"""Callers without a key: they guess keys, and read what `/ready` says."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import LIGHT
from tests.hostile.conftest import Canary, unharmed
from tests.support.api import Api
from tests.support.keys import make_key
from tests.support.metrics import change
from tests.support.process import Service

PER_MINUTE = 20
SPOOFED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "Via")
REPORT = {"status", "instance_id", "pool", "image", "reuse", "self_test"}


@pytest.fixture(scope="module")
def keyed(
    open_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with keys on all addresses, whose client has a key."""
    file = tmp_path_factory.mktemp("wrong-keys") / "keys"
    key = make_key(file, "ada")
    service = open_service(
        **LIGHT,
        HOST="::",
        POOL_SIZE=1,
        API_KEYS_FILE=file,
        KEY_REQUESTS_PER_MINUTE=0,
        WRONG_KEYS_PER_MINUTE=PER_MINUTE,
    )
    service.api.close()
    service.api = Api(service.base_url, key)
    yield service
    service.finish()


@pytest.fixture(scope="module")
def keyed_canary(keyed: Service) -> Iterator[Canary]:
    """A client with a key."""
    canary = Canary(keyed)
    yield canary
    canary.close()


@pytest.fixture(autouse=True)
def _unharmed(keyed: Service, keyed_canary: Canary) -> Iterator[None]:
    with unharmed(keyed, keyed_canary):
        yield


def other_address() -> str:
    """Return an address of this machine that is not loopback."""
    shown = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    return next(address for address in shown if "." in address and not address.startswith("127."))


def guess(service: Service, guesses: int, host: str = "127.0.0.1", **headers: str) -> list[httpx.Response]:
    """Send different wrong keys, each in another way, and return the answers."""
    port = service.base_url.rpartition(":")[2]
    places: tuple[Callable[[str], dict[str, str]], ...] = (
        lambda key: {"X-API-Key": key},
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"Authorization": f"token {key}"},
        lambda key: {"X-API-Key": key, "Authorization": f"Bearer other-{key}"},
    )
    paths = ("/v1/files", "/v1/sessions", "/api/kernels", "/mcp", "/nowhere")
    with httpx.Client(base_url=f"http://{host}:{port}", headers=headers) as http:
        return [
            http.get(paths[number % len(paths)], headers=places[number % len(places)](f"guess-{number}"))
            for number in range(guesses)
        ]


def exhaust(service: Service, host: str = "127.0.0.1") -> httpx.Response:
    """Send wrong keys until one is refused for the limit, and return that answer."""
    for answer in guess(service, 4 * PER_MINUTE, host):
        if answer.status_code == 429:
            return answer
    raise AssertionError("no wrong key was refused for the limit")


def test_wrong_keys_of_an_address_are_limited(keyed: Service) -> None:
    """All are counted in the metrics. After `Retry-After`, a wrong key gets 401 again."""
    with change(keyed.api.http) as changed:
        began = time.monotonic()
        answers = guess(keyed, 5 * PER_MINUTE)
        allowed = PER_MINUTE + (time.monotonic() - began) * PER_MINUTE / 60 + 1
        codes = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert set(codes) == {(401, "key_invalid"), (429, "too_many_wrong_keys")}
        assert codes.count((401, "key_invalid")) <= allowed
        changed.read()
        assert changed.of("wrong_keys_total") == len(answers)
    refused = exhaust(keyed)
    assert "WRONG_KEYS_PER_MINUTE" in refused.json()["detail"]
    time.sleep(int(refused.headers["Retry-After"]))
    assert guess(keyed, 1)[0].status_code == 401


def test_right_key_is_served_while_wrong_keys_are_refused(keyed: Service) -> None:
    """Callers behind one proxy share an address. A caller without a key is told that it needs one."""
    exhaust(keyed)

    def ask(_: int) -> int:
        return httpx.get(f"{keyed.base_url}/v1/files", headers=keyed.api.http.headers).status_code

    with ThreadPoolExecutor(8) as threads:
        guesses = threads.submit(guess, keyed, 100)
        assert set(threads.map(ask, range(100))) == {200}
        assert 429 in {answer.status_code for answer in guesses.result()}
    assert keyed.api.run("print(1)")["stdout"] == "1\n"
    exhaust(keyed)
    assert httpx.get(f"{keyed.base_url}/v1/files").json()["code"] == "key_missing"
    assert httpx.get(f"{keyed.base_url}/health").status_code == 200


def test_header_of_a_proxy_does_not_change_the_address(keyed: Service) -> None:
    """Otherwise a caller would have a new limit with each value."""
    exhaust(keyed)
    for number, name in enumerate(SPOOFED):
        statuses = {answer.status_code for answer in guess(keyed, 10, **{name: f"192.0.2.{number}"})}
        assert 429 in statuses, name


def test_addresses_have_limits_of_their_own(keyed: Service) -> None:
    """Wrong keys from one machine do not affect wrong keys from another."""
    exhaust(keyed)
    assert guess(keyed, 1, other_address())[0].status_code == 401


def ready(service: Service, host: str = "127.0.0.1", *headers: tuple[str, str]) -> Any:
    """Return the body of `/ready`."""
    url = f"http://{host}:{service.base_url.rpartition(':')[2]}/ready"
    answer = httpx.get(url, headers=list(headers))
    assert answer.status_code == 200
    return answer.json()


def test_report_is_shown_to_a_key_and_to_this_machine(keyed: Service, target: Service) -> None:
    """With a key from anywhere; without one from loopback."""
    key = keyed.api.http.headers["X-API-Key"]
    for header in (("X-API-Key", key), ("Authorization", f"Bearer {key}")):
        assert set(ready(keyed, other_address(), header)) == REPORT
        assert set(ready(keyed, "127.0.0.1", header, ("X-Forwarded-For", "192.0.2.1"))) == REPORT
    for host in ("127.0.0.1", "127.8.9.10", "[::1]", "localhost"):
        assert set(ready(keyed, host)) == REPORT
    assert set(ready(target)) == REPORT
    assert set(ready(target, "127.0.0.1", ("Accept-Language", "en"))) == REPORT


def test_report_is_not_shown_to_others(keyed: Service, target: Service) -> None:
    """Another machine, a wrong key, a caller that a proxy forwards, and a page of another server."""
    elsewhere = other_address()
    for headers in ([], [("X-API-Key", "wrong")], [("X-Forwarded-For", "127.0.0.1")]):
        assert ready(keyed, elsewhere, *headers) == {"status": "ready"}
    for name in (*SPOOFED, "X-Forwarded-Host", "X-Forwarded-Proto"):
        for service in (keyed, target):
            assert ready(service, "127.0.0.1", (name, "127.0.0.1")) == {"status": "ready"}
    for name, value in (("Host", "evil.example"), ("Origin", "http://evil.example"), ("Origin", "null")):
        assert ready(keyed, "127.0.0.1", (name, value), ("Accept-Language", "en")) == {"status": "ready"}


def test_wrong_keys_at_ready_are_counted(keyed: Service) -> None:
    """A caller may not guess keys there without being noticed. The status is answered nevertheless."""
    with change(keyed.api.http) as changed:
        for number in range(2 * PER_MINUTE):
            assert ready(keyed, other_address(), ("X-API-Key", f"guess-{number}")) == {"status": "ready"}
        changed.read()
        assert changed.of("wrong_keys_total") == 2 * PER_MINUTE
    assert guess(keyed, 1, other_address())[0].status_code == 429


def test_keys_in_a_web_sockets_address_are_counted(keyed: Service) -> None:
    """A page can only send a key there."""
    exhaust(keyed)
    port = int(keyed.base_url.rpartition(":")[2])
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    statuses = set()
    for number in range(10):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            path = f"/api/kernels/x/channels?token=guess-{number}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n".encode())
            statuses.add(connection.recv(65536).split()[1])
    assert b"429" in statuses
