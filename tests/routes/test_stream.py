"""Tests of `/v1/execute/stream`: the same execution, with its events as they happen."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.api import check_result, problem
from tests.support.process import Service
from tests.support.sse import Event, text_of, wait_for_print

NOT_IN_RESULT = frozenset({"stdout", "stderr"})


@pytest.fixture(scope="module", autouse=True)
def silence(service: Service) -> Iterator[Future[list[Event]]]:
    """All events of an execution that prints nothing for 20 s. It runs beside the other tests."""

    def listen() -> list[Event]:
        code = "import time\ntime.sleep(20)\nprint('awake')"
        with service.api.open_stream(code, timeout_ms=30_000) as events:
            return list(events)

    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(listen)


def result_of(events: list[Event]) -> dict[str, object]:
    """The result, once it is known to be the last event and the only one of its kind."""
    assert [event.type for event in events].count("result") == 1
    assert events[-1].type == "result"
    check_result(events[-1].data, without=NOT_IN_RESULT)
    return events[-1].data


def test_stream_sends_output_displays_and_result_in_order(service: Service) -> None:
    """The result is the last event and does not repeat the output."""
    code = "import sys\nprint('one')\ndisplay('two')\nprint('three', file=sys.stderr)\n'four'"
    events = service.api.stream(code)
    result = result_of(events)
    assert {event.type for event in events} == {"output", "display", "result"}
    assert text_of(events, "stdout") == "one\n'four'\n"
    assert text_of(events, "stderr") == "three\n"
    displays = [event.data for event in events if event.type == "display"]
    assert [display["data"]["text/plain"] for display in displays] == ["'two'", "'four'"]
    assert [display["output_type"] for display in displays] == ["display_data", "execute_result"]
    assert result["outputs"] == displays
    assert (result["exit_code"], result["timed_out"]) == (0, False)


def test_output_arrives_while_the_code_runs(service: Service) -> None:
    """A line can be read long before the execution ends."""
    http = service.api.http
    session_id = http.post("/v1/sessions", json={}).json()["session_id"]
    code = "import os, time\nprint('early')\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('late')"
    received: list[Event] = []
    with service.api.open_stream(code, session_id=session_id, timeout_ms=25_000) as events:
        for event in events:
            received.append(event)
            if text_of(received, "stdout") == "early\n":
                assert http.put(f"/v1/sessions/{session_id}/files/go", content=b"").is_success
    assert text_of(received, "stdout") == "early\nlate\n"
    assert received[-1].data["exit_code"] == 0
    http.delete(f"/v1/sessions/{session_id}")


def test_text_of_the_stream_is_unchanged(service: Service) -> None:
    """Unusual line ends and characters outside the basic plane arrive; the bytes are ASCII."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh\ri 🎉 é \x00 data: x\n\nevent: y"
    events = service.api.stream(f"import sys\n_ = sys.stdout.buffer.write({text.encode()!r})")
    assert text_of(events, "stdout") == text
    result_of(events)


def test_a_character_written_in_two_halves_is_streamed_whole(service: Service) -> None:
    """Half a character is held back until the other half comes."""
    code = "import os, time\nos.write(1, b'\\xe2\\x82'); time.sleep(0.3); _ = os.write(1, b'\\xac')"
    assert text_of(service.api.stream(code), "stdout") == "€"


def test_exception_is_streamed_as_text_and_is_in_the_result(service: Service) -> None:
    """An error of user code is a result, never an `error` event."""
    events = service.api.stream("print('before')\n1/0")
    result = result_of(events)
    assert {event.type for event in events} == {"output", "result"}
    assert text_of(events, "stdout") == "before\n"
    assert text_of(events, "stderr").endswith("ZeroDivisionError: division by zero\n")
    assert result["exit_code"] == 1


def test_a_timeout_ends_the_stream_with_its_result(service: Service) -> None:
    """Output up to the end of the time is streamed, then the result says it was over."""
    events = service.api.stream("import time\nprint('kept')\ntime.sleep(60)", timeout_ms=2000)
    result = result_of(events)
    assert text_of(events, "stdout") == "kept\n"
    assert (result["timed_out"], result["exit_code"]) == (True, None)


def test_crash_ends_the_stream_with_a_result(service: Service) -> None:
    """The result says that a signal killed the kernel."""
    events = service.api.stream("print('kept')\nimport ctypes\nctypes.string_at(0)")
    assert text_of(events, "stdout") == "kept\n"
    assert result_of(events)["exit_code"] == 139


def test_long_output_is_cut_in_the_stream(service: Service) -> None:
    """The stream has at most the limit and the mark."""
    events = service.api.stream("for _ in range(300): print('x' * 99_999)")
    mark = "\n...[truncated: MAX_OUTPUT_BYTES=1048576]\n"
    text = text_of(events, "stdout")
    assert text.endswith(mark) and len(text) == 1_048_576 + len(mark)
    assert result_of(events)["truncated"] == ["stdout"]


def test_files_and_images_of_a_stream_can_be_downloaded(service: Service) -> None:
    """The result names files as `/v1/execute` does, staged inputs included in the rules."""
    files = service.api.stage_at({"in.txt": b"given"})
    code = "text = open('in.txt').read()\nwith open('out.txt', 'w') as f: _ = f.write(text * 2)"
    result = result_of(service.api.stream(code, files=files))
    assert service.api.returned(result) == {"out.txt": b"givengiven"}


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"files": [{"path": "../up", "file_id": "x"}]}, 422, "invalid_path"),
        (
            {"files": [{"path": "a", "file_id": "00000000-0000-4000-8000-000000000000"}]},
            404,
            "file_not_found",
        ),
        ({"timeout_ms": 0}, 422, None),
        ({"code": 1}, 422, None),
    ],
)
def test_refused_request_starts_no_stream(
    service: Service, fields: dict[str, object], status: int, code: str | None
) -> None:
    """A bad request is an ordinary 4xx with a JSON body, not an event."""
    response = service.api.http.post("/v1/execute/stream", json={"code": "1", **fields})
    assert response.status_code == status
    assert code in (None, problem(response)["code"])


def test_disconnect_frees_the_kernel(service: Service) -> None:
    """The execution is ended long before its timeout."""
    before = service.settle(at_target=False)
    code = "import time\nprint('started')\ntime.sleep(29)"
    with service.api.open_stream(code, timeout_ms=30_000) as events:
        wait_for_print(events, "started\n")
        assert service.pool()["busy"] >= 1
    (cancelled,) = service.api.http.get("/v1/executions", params={"limit": 1}).json()["executions"]
    assert before - service.settle(at_target=False), "the container that was used is gone"
    ended = service.api.http.get(f"/v1/executions/{cancelled['execution_id']}").json()
    assert ended["outcome"] == "cancelled" and ended["duration_ms"] < 29_000


def test_comments_keep_a_silent_stream_open(silence: Future[list[Event]]) -> None:
    """After 15 s without an event a comment is sent."""
    events = silence.result(timeout=60)
    assert events[0].type == ":"
    assert {event.type for event in events[1:]} <= {":", "output", "result"}
    assert text_of(events, "stdout") == "awake\n"
