"""Which requests are sent again, and when: with a service that is busy, and with scripted answers."""

import email.utils
import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from code_interpreter_client import (
    Client,
    CodeInterpreterError,
    ConnectionFailed,
    ConnectionLost,
    FileNotFound,
    Printed,
    Retry,
    TooMany,
    Unavailable,
)
from code_interpreter_client.http.retry import retry_after
from tests.client.conftest import ALICE, BOB, MakeClient
from tests.client.odd_server import OddServer, Respond, half, hang_up, reply
from tests.support.process import Service, free_port

ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, first_sec=0.01)
HEALTH = reply(200, b'{"status": "ok"}')
STORED = reply(201, b'{"file_id": "f", "filename": "n", "size_bytes": 1, "upload_time": 1}')
RESULT = reply(200, b'{"exit_code": 0, "timed_out": false, "duration_ms": 1}')
BUSY = reply(503, b'{"detail": "no kernel is free", "code": "no_capacity"}', Retry_After="0")
DOWN = reply(503, b'{"detail": "the kernel failed", "code": "kernel_failed"}')


class Occupied:
    """A client whose code runs for some seconds. The code is running when the block begins."""

    def __init__(self, url: str, key: str, seconds: float) -> None:
        self._client = Client(url, api_key=key)
        self._stream = self._client.stream(f"print(1)\nimport time; time.sleep({seconds})", timeout=20)
        self._thread = threading.Thread(target=self._follow)
        self._running = threading.Event()

    def _follow(self) -> None:
        for event in self._stream:
            if isinstance(event, Printed):
                self._running.set()

    def __enter__(self) -> None:
        self._thread.start()
        assert self._running.wait(60)

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        self._client.close()


# A busy service -------------------------------------------------------------------------------------


def test_client_waits_until_the_key_may_run_code(make_client: MakeClient, crowded: Service) -> None:
    """Without retries the call fails at once; with them the code runs after the other execution has ended."""
    with Occupied(crowded.base_url, ALICE, 4):
        with pytest.raises(TooMany) as refused:
            make_client(crowded.base_url, api_key=ALICE, retry=ONCE).run("1")
        assert (refused.value.code, refused.value.retry_after) == ("too_many_executions", 1.0)
        patient = make_client(crowded.base_url, api_key=ALICE, retry=Retry(attempts=20))
        assert patient.run("print('now')", timeout=20).stdout == "now\n"


def test_client_waits_until_a_busy_service_is_free(make_client: MakeClient, crowded: Service) -> None:
    """The queue is full, so the service answers 429 with `Retry-After`. A call and a stream succeed later."""
    with Occupied(crowded.base_url, ALICE, 4):
        with pytest.raises(TooMany) as refused:
            make_client(crowded.base_url, api_key=BOB, retry=ONCE).run("1")
        assert (refused.value.status, refused.value.code) == (429, "all_kernels_busy")
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        patient = make_client(crowded.base_url, api_key=BOB, retry=Retry(attempts=20))
        result = list(patient.stream("print('now')", timeout=20))[-1]
        assert getattr(result, "stdout", "") == "now\n"


def test_client_does_not_wait_longer_than_its_patience(make_client: MakeClient, crowded: Service) -> None:
    """The service asks for ten seconds and the client has five, so it does not wait at all."""
    client = make_client(crowded.base_url, api_key=ALICE, retry=Retry(patience_sec=5))
    began = time.monotonic()
    with pytest.raises(TooMany) as refused:
        client.session()
    assert refused.value.retry_after == 10
    assert time.monotonic() - began < 10


# Scripted answers -------------------------------------------------------------------------------------

READ: tuple[str, Callable[[Client], Any], Respond] = ("GET", lambda c: c.health(), HEALTH)
RUN: tuple[str, Callable[[Client], Any], Respond] = ("POST", lambda c: c.run("1"), RESULT)


@pytest.mark.parametrize(
    ("trouble", "call", "requests"),
    [
        pytest.param(BUSY, READ, 2, id="busy, reading"),
        pytest.param(BUSY, RUN, 2, id="busy, running"),
        pytest.param(reply(429, Retry_After="0"), RUN, 2, id="too many requests, running"),
        pytest.param(reply(429), RUN, 2, id="too many requests without Retry-After, running"),
        pytest.param(DOWN, READ, 2, id="failed, reading"),
        pytest.param(DOWN, RUN, 1, id="failed, running"),
        pytest.param(reply(502), READ, 2, id="bad gateway, reading"),
        pytest.param(reply(504), RUN, 1, id="gateway timeout, running"),
        pytest.param(reply(500), READ, 1, id="fault, reading"),
        pytest.param(reply(409), READ, 1, id="conflict"),
        pytest.param(hang_up, READ, 2, id="connection closed, reading"),
        pytest.param(hang_up, RUN, 1, id="connection closed, running"),
        pytest.param(half(b'{"ex', 99, "application/json"), RUN, 1, id="truncated answer, running"),
        pytest.param(half(b'{"st', 99, "application/json"), READ, 2, id="truncated answer, reading"),
    ],
)
def test_client_repeats_only_safe_requests(
    make_client: MakeClient,
    odd_server: OddServer,
    trouble: Respond,
    call: tuple[str, Callable[[Client], Any], Respond],
    requests: int,
) -> None:
    """Code is sent again only if it cannot have run. Requests that read are always sent again."""
    method, ask, good = call
    odd_server.script = [trouble, good]
    client = make_client(odd_server.url, retry=QUICK)
    if requests == 2:
        assert ask(client) is not None
    else:
        with pytest.raises(CodeInterpreterError):
            ask(client)
    assert [request.method for request in odd_server.seen] == [method] * requests


def test_retries_end_with_attempts_and_patience(make_client: MakeClient, odd_server: OddServer) -> None:
    """The client sends as many requests as allowed, and makes no pause beyond the patience."""
    odd_server.script = [BUSY]
    with pytest.raises(Unavailable):
        make_client(odd_server.url, retry=QUICK).run("1")
    assert len(odd_server.seen) == 3
    odd_server.seen.clear()
    odd_server.script = [reply(503, Retry_After="1")]
    began = time.monotonic()
    with pytest.raises(Unavailable):
        make_client(odd_server.url, retry=Retry(attempts=100, patience_sec=1.5)).run("1")
    assert len(odd_server.seen) == 2
    assert time.monotonic() - began >= 1


def test_client_waits_for_a_service_that_starts(make_client: MakeClient) -> None:
    """A refused connection means that nothing was sent, so code is sent again, too."""
    port = free_port()
    with closing(ThreadPoolExecutorOf()) as threads:
        client = make_client(
            f"http://127.0.0.1:{port}", retry=Retry(attempts=1000, first_sec=0.05, longest_sec=0.1)
        )
        running = threads.submit(lambda: client.run("1"))
        time.sleep(0.4)
        assert not running.done()
        with OddServer([RESULT], port=port) as second_server:
            assert running.result(60).exit_code == 0
            assert len(second_server.seen) == 1
        with pytest.raises(ConnectionFailed):
            make_client(f"http://127.0.0.1:{port}", retry=QUICK).run("1")


class ThreadPoolExecutorOf(ThreadPoolExecutor):
    """An executor that `closing` can shut down."""

    def close(self) -> None:
        self.shutdown()


@pytest.mark.parametrize("kind", ["bytes", "path", "open file"])
def test_repeated_upload_starts_at_the_beginning_of_the_file(
    make_client: MakeClient, odd_server: OddServer, tmp_path: Path, kind: str
) -> None:
    """Each attempt sends the whole content, with its length in the header."""
    content = b"0123456789" * 20_000
    local = tmp_path / "file.bin"
    local.write_bytes(b"before" + content if kind == "open file" else content)
    with local.open("rb") as file:
        file.seek(len(b"before"))
        source = {"bytes": content, "path": local, "open file": file}[kind]
        client = make_client(odd_server.url, retry=QUICK)
        odd_server.script = [BUSY, STORED]
        client.upload(source)  # type: ignore[arg-type]
    assert len(odd_server.seen) == 2
    for request in odd_server.seen:
        assert content in request.body
        assert b"before" not in request.body
        assert "Content-Length" in request.headers


def test_pipe_is_uploaded_only_once(make_client: MakeClient, odd_server: OddServer) -> None:
    """The first attempt reads the pipe to its end, so there is no second one."""
    odd_server.script = [BUSY, STORED]
    for _ in range(2):
        reader, writer = os.pipe()
        os.write(writer, b"through a pipe")
        os.close(writer)
        client = make_client(odd_server.url, retry=QUICK)
        with os.fdopen(reader, "rb") as pipe:
            if not odd_server.seen:
                with pytest.raises(Unavailable):
                    client.upload(pipe)
            else:
                client.upload(pipe)
    assert len(odd_server.seen) == 2
    assert all(b"through a pipe" in request.body for request in odd_server.seen)


def test_delete_succeeds_if_its_first_answer_was_lost(make_client: MakeClient, odd_server: OddServer) -> None:
    """The second attempt gets 404, because the first one deleted the file. A single 404 is an error."""
    client = make_client(odd_server.url, retry=QUICK)
    gone = reply(404, b'{"detail": "not found", "code": "file_not_found"}')
    odd_server.script = [hang_up, gone]
    client.delete_file("f")
    with pytest.raises(FileNotFound):
        client.delete_file("f")


def test_broken_download_starts_again(make_client: MakeClient, odd_server: OddServer, tmp_path: Path) -> None:
    """The whole file is on disk, or nothing."""
    client = make_client(odd_server.url, retry=QUICK)
    odd_server.script = [half(b"01234", 10), reply(200, b"0123456789", "application/octet-stream")]
    assert client.download_file("f", tmp_path / "x").read_bytes() == b"0123456789"
    odd_server.script = [half(b"01234", 10)]
    with pytest.raises(ConnectionLost):
        client.download_file("f", tmp_path / "y")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_broken_stream_is_not_opened_again(make_client: MakeClient, odd_server: OddServer) -> None:
    """The code may have run. The events so far are yielded, then the error is raised."""
    event = b'event: output\ndata: {"stream": "stdout", "data": "a"}\n\n'
    for broken in (half(event, 999, "text/event-stream"), reply(200, event, "text/event-stream")):
        odd_server.script = [broken]
        events: list[object] = []
        odd_server.seen.clear()
        with pytest.raises(ConnectionLost):
            events.extend(make_client(odd_server.url, retry=QUICK).stream("1"))
        assert events == [Printed("stdout", "a")]
        assert len(odd_server.seen) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_header_is_parsed(value: str, seconds: float | None) -> None:
    """The header has seconds or a date. An invalid one is ignored."""
    assert retry_after({"Retry-After": value}) == seconds


def test_retry_after_date_becomes_seconds() -> None:
    """The result is the time from now until the date."""
    at = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"Retry-After": at}) == pytest.approx(30, abs=2)


def test_pauses_grow_within_their_bounds() -> None:
    """A pause is at most twice the one before. A `Retry-After` takes precedence."""
    retry = Retry(attempts=9, first_sec=1, longest_sec=4, patience_sec=100)
    for attempt, longest in ((1, 1), (2, 2), (3, 4), (8, 4)):
        pause = retry.pause(attempt, 0, None)
        assert pause is not None
        assert longest / 2 <= pause <= longest
    assert retry.pause(1, 0, 50) == 50
    assert retry.pause(1, 60, 50) is None
    assert retry.pause(9, 0, None) is None


def test_file_in_memory_is_uploaded_from_its_position(make_client: MakeClient, odd_server: OddServer) -> None:
    """This holds for uploads into a session's workspace as well."""

    odd_server.script = [reply(201, b'{"session_id": "s", "expires_at": 1}')]
    session = make_client(odd_server.url).session()
    odd_server.script = [reply(201, b'{"path": "p", "size_bytes": 3}')]
    memory = io.BytesIO(b"abcdef")
    memory.seek(3)
    session.upload("p", memory)
    assert (odd_server.seen[-1].method, odd_server.seen[-1].body) == ("PUT", b"def")
    assert odd_server.seen[-1].headers["Content-Length"] == "3"
