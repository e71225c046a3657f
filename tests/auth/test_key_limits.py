"""Tests of the limits of each key: the counters alone, and each limit on a running service."""

import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from service.auth.errors import TooManyRequests, TooManyWrongKeys
from service.auth.limits import ConcurrencyLimit, RequestRate, WrongKeyRate
from service.files.quota import FILE_OVERHEAD_BYTES, StorageQuota
from service.settings.values import MIB
from sessions.errors import FileTooLarge, StorageQuotaExceeded, TooManyExecutions
from tests.conftest import StartService
from tests.files.test_artifacts import chunks, left_in
from tests.routes.files_support import file_store
from tests.support.api import Api, problem
from tests.support.keys import KeyedService, make_key
from tests.support.process import Service
from tests.support.session import Session, new_session, open_session
from tests.support.settings import make_settings

pytestmark = pytest.mark.timeout(120)

PER_MINUTE = 120
EXECUTIONS = 2
SESSIONS = 2
STORAGE = 2 * MIB
SPIN = "while True: pass"


# The counters ----------------------------------------------------------------------------------


def test_request_rate_allows_a_burst_and_then_an_even_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each owner has a rate of its own. A refused request is not counted and gives the time to wait."""
    now = 1000.0
    monkeypatch.setattr("sessions.rate.time.monotonic", lambda: now)
    rate = RequestRate(6)
    for _ in range(6):
        rate.count("alice")
    for _ in range(3):
        with pytest.raises(TooManyRequests) as caught:
            rate.count("alice")
        assert caught.value.retry_after_sec == pytest.approx(10)
    rate.count("bob")
    now += 9.9
    with pytest.raises(TooManyRequests):
        rate.count("alice")
    now += 0.2
    rate.count("alice")
    with pytest.raises(TooManyRequests):
        rate.count("alice")
    now += 3600
    for _ in range(6):
        rate.count("alice")
    with pytest.raises(TooManyRequests):
        rate.count("alice")


def test_wrong_keys_of_one_network_are_limited_together() -> None:
    """Addresses of IPv4 count alone, in both notations. Those of IPv6 count by their /64 network."""
    rate = WrongKeyRate(2)
    same = (
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
        ("fe80::1", "fe80::2%eth0"),
        ("", ""),
        ("not an address", "not an address"),
    )
    for first, second in same:
        rate.count(first)
        rate.count(second)
        for address in (first, second):
            with pytest.raises(TooManyWrongKeys) as refused:
                rate.count(address)
            assert 0 < refused.value.retry_after_sec <= 30
    for other in ("192.0.2.2", "::ffff:192.0.2.3", "2001:db8:0:2::1", "::1"):
        rate.count(other)


def test_wrong_keys_of_many_addresses_take_little_memory() -> None:
    """If there are too many addresses, the one that was silent longest is forgotten."""
    rate = WrongKeyRate(1)
    rate.count("192.0.2.1")
    tracemalloc.start()
    try:
        for number in range(100_000):
            rate.count(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
            if number % 1000 == 0:
                with pytest.raises(TooManyWrongKeys):
                    rate.count("192.0.2.1")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * MIB
    rate.count("2001:db8::1")


def test_limit_of_zero_refuses_nothing() -> None:
    """Zero switches off the rates of requests and wrong keys, the concurrency limit and the storage quota."""
    wrong_keys = WrongKeyRate(0)
    rate, executions, quota = RequestRate(0), ConcurrencyLimit(0), StorageQuota(0)
    with ExitStack() as stack:
        for _ in range(1000):
            rate.count("alice")
            wrong_keys.count("192.0.2.1")
            stack.enter_context(executions.one_of("alice"))
            stack.enter_context(quota.new_file("alice"))(2**40)


def test_failed_execution_is_no_longer_counted() -> None:
    """A refused execution is not counted at all."""
    executions = ConcurrencyLimit(1)
    for _ in range(3):
        with suppress(ZeroDivisionError), executions.one_of("alice"):
            with pytest.raises(TooManyExecutions), executions.one_of("alice"):
                pass
            with executions.one_of("bob"):
                1 / 0  # noqa: B018
    with executions.one_of("alice"):
        pass


async def test_quota_follows_saved_and_removed_files(tmp_path: Path) -> None:
    """Too large, expired and deleted files are not counted. A restart counts the stored files again."""
    settings = make_settings(
        tmp_path, api_keys="alice:x", key_storage_mb=2, max_file_size_mb=1, file_ttl_sec=60
    )
    half = b"x" * (MIB - FILE_OVERHEAD_BYTES)
    async with file_store(settings) as store:
        first = await store.save(chunks(half), "1", owner="alice")
        for _ in range(3):
            with pytest.raises(FileTooLarge):
                await store.save(chunks(half, half), "too large", owner="alice")
        second = await store.save(chunks(half), "2", owner="alice")
        for content in (b"", b"x"):
            with pytest.raises(StorageQuotaExceeded, match="KEY_STORAGE_MB=2"):
                await store.save(chunks(content), "3", owner="alice")
        await store.save(chunks(b"x"), "bob's", owner="bob")
        assert await store.delete(second.file_id, "alice")
        assert not await store.delete(second.file_id, "alice")
        await store.save(chunks(half), "4", owner="alice")
    async with file_store(settings) as store:
        with pytest.raises(StorageQuotaExceeded):
            await store.save(chunks(b""), "5", owner="alice")
        (tmp_path / "storage/files" / first.file_id).unlink()
        await store.sweep(0)  # a row whose bytes are gone
        await store.save(chunks(half), "6", owner="alice")
        with pytest.raises(StorageQuotaExceeded):
            await store.save(chunks(b""), "7", owner="alice")
        await store.sweep(time.time() + 61)
        assert left_in(tmp_path) == []
        for name in ("8", "9"):
            await store.save(chunks(half), name, owner="alice")


# A running service -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(
    open_service: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KeyedService]:
    """A service with small limits for each key. Each test uses keys of its own."""
    file = tmp_path_factory.mktemp("limited") / "keys"
    make_key(file, "unused")
    service = open_service(
        KERNEL_PRELOAD="none",
        POOL_SIZE=3,
        MAX_EXEC_TIMEOUT_MS=30_000,
        CPU_TIME_LIMIT_SEC=30,
        MEMORY_LIMIT_MB=256,
        MAX_SESSIONS=20,
        MAX_FILE_SIZE_MB=64,
        OPEN_PAGES="none",
        API_KEYS_FILE=file,
        KEY_REQUESTS_PER_MINUTE=PER_MINUTE,
        KEY_MAX_EXECUTIONS=EXECUTIONS,
        KEY_MAX_SESSIONS=SESSIONS,
        KEY_STORAGE_MB=STORAGE // MIB,
    )
    keyed = KeyedService(service, file)
    yield keyed
    keyed.close()
    service.finish()


def refused(response: httpx.Response, status: int, code: str, setting: str) -> None:
    """Assert that the response names the exceeded limit and, with status 429, the time to wait."""
    assert response.status_code == status, response.text
    body = problem(response)
    assert body["code"] == code
    assert setting in body["detail"]
    if status == 429:
        assert int(response.headers["retry-after"]) >= 1


def wait_until_below_limit(api: Api, seconds: float = 60, limit: int = EXECUTIONS) -> None:
    """Wait until the key may run code again."""
    deadline = time.monotonic() + seconds
    while (response := api.execute("1")).status_code != 200:
        refused(response, 429, "too_many_executions", f"KEY_MAX_EXECUTIONS={limit}")
        assert time.monotonic() < deadline, "the execution is still counted"
        time.sleep(0.25)


def runs_at_limit(api: Api) -> bool:
    """Return whether the key can run as many executions at once as it may."""
    with ThreadPoolExecutor(EXECUTIONS) as threads:
        answers = threads.map(lambda _: api.execute("import time; time.sleep(0.3)"), range(EXECUTIONS))
        return [answer.status_code for answer in answers] == [200] * EXECUTIONS


def test_executions_of_a_key_are_limited_without_affecting_other_keys(limited: KeyedService) -> None:
    """A third execution is refused at once while two run. Closing the streams ends the two."""
    api, other = limited.api("busy"), limited.api("other")
    with ExitStack() as running:
        streams = []
        for _ in range(EXECUTIONS):
            streams.append(
                running.enter_context(api.open_stream(f"print(1, flush=True)\n{SPIN}", timeout_ms=20_000))
            )
            assert next(streams[-1]).type == "output"
        for path in ("/v1/execute", "/v1/execute/stream"):
            response = api.http.post(path, json={"code": "1"})
            refused(response, 429, "too_many_executions", "KEY_MAX_EXECUTIONS=2")
        assert other.run("print(2)")["stdout"] == "2\n"
        assert api.http.get("/v1/files").status_code == 200
    wait_until_below_limit(api)
    time.sleep(0.5)
    assert runs_at_limit(api)


def test_failed_or_refused_call_is_no_longer_counted(limited: KeyedService) -> None:
    """Timeouts, killed kernels, exceptions, and requests that are refused before code runs."""
    api = limited.api("unlucky")
    unknown = [{"path": "a", "file_id": "00000000-0000-4000-8000-000000000000"}]
    for status, code, fields in (
        (200, SPIN, {"timeout_ms": 200}),
        (200, "import os; os.kill(os.getpid(), 9)", {}),
        (200, "1 / 0", {}),
        (422, "1", {"timeout_ms": 10**6}),
        (422, "1", {"files": [{"path": "../a", "file_id": "x"}]}),
        (404, "1", {"files": unknown}),
    ):
        for _ in range(EXECUTIONS + 1):
            assert api.execute(code, **fields).status_code == status
    assert runs_at_limit(api)


def test_cells_and_commands_of_sessions_are_counted(limited: KeyedService) -> None:
    """Detached cells and cells that wait for the session lock count too. Deleting the session ends both."""
    api = limited.api("sessions")
    with new_session(limited.service, api) as one, new_session(limited.service, api) as two:
        one.detach(SPIN, timeout_ms=20_000)
        waiting = threading.Thread(target=lambda: one.execute("1"))
        waiting.start()
        time.sleep(0.5)
        for response in (
            two.execute("1"),
            two.call("POST", "/execute/stream", json={"code": "1"}),
            two.call("POST", "/bash", json={"cmd": "true"}),
            api.execute("1", session_id=two.id),
        ):
            refused(response, 429, "too_many_executions", "KEY_MAX_EXECUTIONS=2")
        assert two.describe()["state"] == "ready"
        one.interrupt()
        waiting.join(60)
        assert two.bash("echo free")["stdout"] == "free\n"
        two.detach("while True: pass", timeout_ms=20_000)
        assert two.delete().status_code == 204
        wait_until_below_limit(api)
        assert two.delete().status_code == 404


def test_session_restarts_at_the_execution_limit(limited: KeyedService) -> None:
    """A restart ends the cells that keep the key at its limit."""
    api = limited.api("stuck")
    with new_session(limited.service, api) as one, new_session(limited.service, api) as two:
        for session in (one, two):
            session.detach("import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass")
        refused(api.execute("1"), 429, "too_many_executions", "KEY_MAX_EXECUTIONS=2")
        one.restart()
        assert one.printed("print('back')") == "back"


def test_cell_that_survives_a_crash_is_still_counted(start_service: StartService) -> None:
    """The restarted service counts the cell until it ends."""
    service = start_service(POOL_SIZE=1, API_KEYS="alice:key-of-alice-alice", KEY_MAX_EXECUTIONS=1)
    session = open_session(service, Api(service.base_url, "key-of-alice-alice"))
    session.detach(SPIN)
    session.api.close()
    service.crash()
    service.restart()
    session = Session(service, session.created, Api(service.base_url, "key-of-alice-alice"))
    refused(session.api.execute("1"), 429, "too_many_executions", "KEY_MAX_EXECUTIONS=1")
    session.interrupt()
    wait_until_below_limit(session.api, limit=1)
    session.delete()
    session.api.close()


def test_sessions_of_a_key_are_limited(limited: KeyedService) -> None:
    """Concurrent requests open no more sessions than the limit. Other keys are not affected.

    A session that has ended is not counted.
    """
    api, other = limited.api("collector"), limited.api("modest")
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: api.http.post("/v1/sessions", json={}), range(5)))
    opened = [answer for answer in answers if answer.status_code == 201]
    assert len(opened) == SESSIONS
    for answer in answers:
        if answer not in opened:
            refused(answer, 429, "too_many_sessions", "KEY_MAX_SESSIONS=2")
    with new_session(limited.service, other):
        sessions = [Session(limited.service, answer.json(), api) for answer in opened]
        refused(api.http.post("/v1/sessions", json={}), 429, "too_many_sessions", "KEY_MAX_SESSIONS=2")
        sessions[0].delete()
        sessions[0] = open_session(limited.service, api)
        for session in sessions:
            session.delete()


def test_stored_bytes_of_a_key_are_limited(limited: KeyedService) -> None:
    """Concurrent uploads and output files stay within the quota. Other keys are not affected.

    A deleted file makes room for another.
    """
    api, other = limited.api("hoarder"), limited.api("thrifty")
    piece = b"x" * 600_000

    def upload(_: int) -> httpx.Response:
        return api.http.post("/v1/files", files={"file": ("piece", piece)})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(upload, range(8)))
    stored = [answer.json()["file_id"] for answer in answers if answer.status_code == 201]
    assert len(stored) == STORAGE // len(piece)
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, 507, "storage_quota_exceeded", "KEY_STORAGE_MB=2")
    assert len(api.http.get("/v1/files").json()["files"]) == len(stored)
    other.upload(piece)

    result = api.run("open('big', 'w').write('x' * 600_000); open('small', 'w').write('x'); 1")
    assert [file["path"] for file in result["files"]] == ["small"]
    assert [file["path"] for file in result["skipped_files"]] == ["big"]
    assert "KEY_STORAGE_MB=2" in result["skipped_files"][0]["reason"]

    assert api.http.delete(f"/v1/files/{stored[0]}").status_code == 204
    assert upload(0).status_code == 201


def test_upload_over_the_quota_is_refused_before_its_end(limited: KeyedService) -> None:
    """The disk never holds more than the quota, and nothing of the upload is kept."""
    api, service = limited.api("flooder"), limited.service
    before, memory = service.stored(), service.resident_kb()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    request = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nX-API-Key: {limited.key('flooder')}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {60 * MIB}\r\n\r\n"
    )
    host, port = service.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request.encode() + head)
        largest = 0
        for _ in range(40):  # of the 60 that Content-Length announces
            connection.sendall(b"x" * MIB)
            for path in (service.storage / "incoming").iterdir():
                with suppress(FileNotFoundError):
                    largest = max(largest, path.stat().st_size)
            if select.select([connection], [], [], 0.1)[0]:
                break
        answer = b""
        while not answer.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 507 ")
        assert b"storage_quota_exceeded" in answer
    assert largest <= STORAGE
    assert service.stored() == before
    assert service.resident_kb() - memory < 16 * 1024
    assert api.http.get("/v1/files").json()["files"] == []
    api.upload(b"x" * MIB)


def test_requests_of_a_key_are_limited_per_minute(limited: KeyedService) -> None:
    """Over the limit, the status is 429 for `Retry-After` seconds. Other keys and probes are not limited."""
    api, other = limited.api("hasty"), limited.api("patient")
    began = time.monotonic()
    codes = [api.http.get("/v1/files").status_code for _ in range(PER_MINUTE + 60)]
    earned = (time.monotonic() - began) * PER_MINUTE / 60 + 1
    assert set(codes) == {200, 429}
    assert PER_MINUTE <= codes.count(200) <= PER_MINUTE + earned

    deadline = time.monotonic() + 60
    while (response := api.http.post("/v1/files", content=b"not read")).status_code != 429:
        assert time.monotonic() < deadline
    refused(response, 429, "too_many_requests", "KEY_REQUESTS_PER_MINUTE=120")
    assert api.http.get("/health").status_code == 200
    assert other.http.get("/v1/files").status_code == 200
    time.sleep(int(response.headers["retry-after"]))
    assert api.http.get("/v1/files").status_code == 200


def test_closed_pages_need_a_key(limited: KeyedService) -> None:
    """With `OPEN_PAGES=none`, documentation and metrics need a key. The probes never do."""
    api = limited.api("reader")
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert problem(httpx.get(limited.service.base_url + path))["code"] == "key_missing"
        assert api.http.get(path).status_code == 200
    assert problem(httpx.get(f"{limited.service.base_url}/metrics"))["code"] == "key_missing"
    for path in ("/health", "/ready"):
        assert httpx.get(limited.service.base_url + path).status_code == 200
