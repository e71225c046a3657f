"""Cells of a session, its notebook, detached and abandoned calls, prompts."""

import base64
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from typing import Any

import nbformat
import pytest

from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session, check_session_result, new_session
from tests.support.sse import Event, strict_json, text_of, wait_for_print
from tests.support.waiting import soon

NOT_IN_RESULT = frozenset({"stdout", "stderr"})
CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9"/>'


def notebook_of(session: Session) -> Any:
    """The session's notebook as Jupyter's own library reads it, found valid."""
    response = session.call("GET", "/notebook")
    assert response.status_code == 200, response.text[:1000]
    assert response.headers["content-type"].split(";")[0] == "application/x-ipynb+json"
    disposition = response.headers["content-disposition"]
    assert disposition.startswith("attachment") and ".ipynb" in disposition
    plain = strict_json(response.content)
    assert (plain["nbformat"], plain["nbformat_minor"]) == (4, 5)
    nbformat.validate(plain)
    return nbformat.reads(response.text, as_version=4)  # type: ignore[no-untyped-call]


def result_of(events: list[Event]) -> Body:
    """The result of a stream, once it is known to be the last event."""
    assert events[-1].type == "result"
    check_session_result(events[-1].data, without=NOT_IN_RESULT)
    return events[-1].data


# Cells and notebook ------------------------------------------------------------------------------


def test_cells_and_notebook_have_code_and_results(service: Service) -> None:
    """Each call is a cell with its code and result, in order. The notebook shows them as Jupyter would."""
    with new_session(service) as own_session:
        assert own_session.cells() == []
        assert notebook_of(own_session).cells == []
        codes = [
            "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7",
            f"display('shown')\n{CHART}",
            "print('before')\n1/0",
            "x = 'é 🎉 \\x1b[31m'\nx",
            "import os; print('last words'); os._exit(4)",
            "display({'application/json': {'a': [1, None]}, 'text/plain': 'j'}, raw=True)",
        ]
        results = [own_session.run(code) for code in codes]

        cells = own_session.cells()
        assert [cell["code"] for cell in cells] == codes
        assert [cell["number"] for cell in cells] == [1, 2, 3, 4, 5, 6]
        assert {cell["state"] for cell in cells} == {"done"}
        assert [cell["result"] for cell in cells] == results
        assert [cell["cell_id"] for cell in cells] == [result["cell_id"] for result in results]
        times = [at for cell in cells for at in (cell["started_at"], cell["finished_at"])]
        assert times == sorted(times)
        assert abs(times[-1] - time.time()) < 60
        assert [own_session.cell(cell["cell_id"]) for cell in cells] == cells
        for invalid in (uuid.uuid4().hex, "x", "%00"):
            missing = own_session.call("GET", f"/cells/{invalid}")
            assert missing.status_code == 404
            problem(missing)

        book = notebook_of(own_session)
        assert book.metadata.kernelspec.name == "python3"
        assert book.metadata.language_info.name == "python"
        assert [cell.source for cell in book.cells] == codes
        assert {cell.cell_type for cell in book.cells} == {"code"}
        assert [cell.execution_count for cell in book.cells[:4]] == [1, 2, 3, 4]
        first, chart, error, text, dead, json = [cell.outputs for cell in book.cells]
        assert [(o.output_type, o.get("name")) for o in first] == [
            ("stream", "stdout"),
            ("stream", "stderr"),
            ("execute_result", None),
        ]
        assert first[0].text == "out\n", "the value is shown once"
        assert first[2].data["text/plain"] == "42"
        assert [o.output_type for o in chart] == ["display_data", "display_data"]
        assert base64.b64decode(chart[1].data["image/png"]).startswith(b"\x89PNG")
        assert [o.output_type for o in error] == ["stream", "error"]
        assert (error[1].ename, error[1].evalue) == ("ZeroDivisionError", "division by zero")
        assert text[0].data["text/plain"] == repr("é 🎉 \x1b[31m")
        assert "last words\n" in [o.get("text") for o in dead]
        assert json[0].data["application/json"] == {"a": [1, None]}


def test_every_kind_of_call_is_a_cell(session: Session) -> None:
    """Streamed calls, calls by `session_id` and calls that time out are cells, too."""
    streamed = result_of(session.stream("print('streamed')"))
    by_id = session.api.run("print('by id')", session_id=session.id)
    late_result = session.run("print('late')\nimport time; time.sleep(30)", timeout_ms=3000)
    for result, text in ((streamed, "streamed\n"), (by_id, "by id\n"), (late_result, "late\n")):
        cell = session.cell(result["cell_id"])
        assert (cell["state"], cell["result"]["stdout"]) == ("done", text)
    assert session.cell(late_result["cell_id"])["result"]["timed_out"] is True
    missing = session.execute("never", files=[{"path": "a", "file_id": str(uuid.uuid4())}])
    assert missing.status_code == 404
    assert "never" not in [cell["code"] for cell in session.cells()], "what was refused is no cell"
    notebook_of(session)


# Detached and abandoned --------------------------------------------------------------------------


def test_stored_result_equals_the_response(session: Session) -> None:
    """`cells` returns the response of each call: the same fields and values, in the same order."""
    for code in ("print('text')\n1 / 0", "open('made', 'w').write('x')\n{'a': 1.5}", CHART):
        answered = session.execute(code).json()
        stored = session.cell(answered["cell_id"])["result"]
        assert list(stored.items()) == list(answered.items())


def test_session_deleted_at_once_keeps_the_last_result(service: Service) -> None:
    """The result that the caller got is in the history, and the log has no error."""
    for _ in range(4):
        with new_session(service) as session:
            session.run("'answered'")
        (cell,) = session.cells()
        assert (cell["state"], cell["result"]["stdout"]) == ("done", "'answered'\n")
    time.sleep(0.2)
    assert "UNIQUE" not in service.log_path.read_text()


def test_long_program_is_run_and_stored(session: Session) -> None:
    """The code is nearly as long as a request may be, and JSON has to escape its characters."""
    line = 'é"' + 2 * "\\" + "\n"
    code = f"text = '''{line * 250_000}'''\nlen(text)"
    answer = session.run(code, timeout_ms=30_000)
    assert answer["stdout"] == "1000000\n", answer["stderr"][-500:]
    assert session.cell(answer["cell_id"])["code"] == code


def test_detached_call_is_answered_at_once_and_goes_on(session: Session) -> None:
    """The answer is 202 with the cell's id. Other calls wait, and `cells` gets the result."""
    code = (
        "import os, time\nprint('early')\nwhile not os.path.exists('go.txt'): time.sleep(0.02)\n"
        "time.sleep(1)\ny = 'set'\ny"
    )
    response = session.execute(code, detach=True, timeout_ms=30_000)
    assert response.status_code == 202
    body = strict_json(response.content)
    assert isinstance(body["execution_id"], str)
    running = session.cell(body["cell_id"])
    assert (running["state"], running["result"]) == ("running", None)
    assert session.describe()["state"] == "busy"
    assert session.cells()[-1]["cell_id"] == body["cell_id"]
    notebook_of(session)

    session.put("go.txt", b"")
    assert session.printed("y") == "'set'", "the next call waits for it"
    done = session.cell(body["cell_id"])
    assert done["state"] == "done"
    result = done["result"]
    assert (result["stdout"], result["exit_code"], result["state"]) == ("early\n'set'\n", 0, "kept")
    assert (result["cell_id"], result["execution_id"]) == (body["cell_id"], body["execution_id"])
    assert result["outputs"][0]["data"]["text/plain"] == "'set'"


def test_detached_call_can_be_interrupted_and_can_time_out(session: Session) -> None:
    """Both `interrupt` and `timeout_ms` apply to detached calls."""
    first = session.detach("import time; open('began', 'w'); time.sleep(25)", timeout_ms=30_000)
    assert soon(lambda: "began" in session.files())
    session.interrupt()
    assert session.finished(first)["result"]["error"]["name"] == "KeyboardInterrupt"
    second = session.detach("import time; time.sleep(25)", timeout_ms=600)
    assert session.finished(second)["result"]["timed_out"] is True


def test_disconnect_of_the_reader_interrupts_the_call(session: Session) -> None:
    """The kernel is free again, and keeps its variables."""
    session.run("import time\nmarker = 'here'\nended = 'no'")
    code = (
        "try:\n    print('started')\n    time.sleep(25)\n    ended = 'by itself'\n"
        "except KeyboardInterrupt:\n    ended = 'interrupted'\n    raise"
    )
    with session.open_stream(code, timeout_ms=30_000) as events:
        wait_for_print(events, "started\n")
    assert session.printed("print(marker, ended)") == "here interrupted"
    cell = session.cells()[-2]
    assert cell["state"] == "done"
    assert (cell["result"]["stdout"], cell["result"]["state"]) == ("started\n", "kept")
    assert cell["result"]["error"]["name"] == "KeyboardInterrupt"


def test_code_that_ignores_the_interrupt_is_killed_after_a_disconnect(session: Session) -> None:
    """The next call works."""
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf')"
    code = f"{deaf}\ntime.sleep(25)\nprint('over')"
    with session.open_stream(code, timeout_ms=30_000) as events:
        wait_for_print(events, "deaf\n")
    assert session.printed("'next'") == "'next'"
    assert session.cells()[-2]["result"]["stdout"] == "deaf\n"


def test_detached_stream_goes_on_after_a_disconnect(session: Session) -> None:
    """With `detach` the code goes on, and `cells` has the whole result."""
    session.run("import time")
    code = "print('started')\ntime.sleep(2)\nprint('finished')\nthere = 'set'"
    with session.open_stream(code, detach=True) as events:
        wait_for_print(events, "started\n")
    cell = session.finished(session.cells()[-1]["cell_id"])
    assert (cell["result"]["stdout"], cell["result"]["exit_code"]) == ("started\nfinished\n", 0)
    assert session.printed("there") == "'set'"


def test_waiting_call_does_not_run_after_a_disconnect(session: Session) -> None:
    """The client disconnects while its call waits for the session."""
    session.run("import time\nran = []")
    cell_id = session.detach("time.sleep(2); ran.append('first')")
    with pytest.raises(Exception, match="timed out"):
        session.call("POST", "/execute", json={"code": "ran.append('left')"}, timeout=0.5)
    session.finished(cell_id)
    time.sleep(0.5)
    # A server can't always know that a plain call's client is gone; it must not get stuck on it.
    assert session.printed("ran") in ("['first']", "['first', 'left']")


# Images by reference -----------------------------------------------------------------------------


def test_images_can_be_left_out_of_the_answer(session: Session) -> None:
    """With `?images=ref` every call returns the file id of an image without its bytes."""
    code = f"from IPython.display import SVG\ndisplay(SVG({SVG!r}))\n{CHART}\n'text'"
    body = {"code": code, "timeout_ms": 10_000}
    answers = [
        session.call("POST", "/execute", params={"images": "ref"}, json=body).json(),
        session.api.http.post("/v1/execute", params={"images": "ref"}, json=body).json(),
    ]
    for url in (f"{session.url}/execute/stream", "/v1/execute/stream"):
        with session.api.open_stream_at(f"{url}?images=ref", code) as received:
            events = [event for event in received if event.type != ":"]
        shown = [event.data for event in events if event.type == "display"]
        answers += [{"outputs": shown}, events[-1].data]
    for answer in answers:
        svg, chart, text = answer["outputs"]
        assert text["data"]["text/plain"] == "'text'"
        assert "image/svg+xml" not in svg["data"]
        assert "image/png" not in chart["data"]
        assert chart["data"]["text/plain"].startswith("<Figure")
        png = session.api.download(chart["metadata"]["image/png"]["file_id"])
        assert png.startswith(b"\x89PNG")
        assert session.api.download(svg["metadata"]["image/svg+xml"]["file_id"]) == SVG.encode()
    plain = session.run(CHART)
    assert plain["outputs"][0]["data"]["image/png"], "without it, the bytes are there"
    invalid = session.call("POST", "/execute", params={"images": "perhaps"}, json=body)
    assert invalid.status_code == 422


# Prompts -----------------------------------------------------------------------------------------


def answer(session: Session, value: str) -> None:
    """`POST …/input`, which must be taken."""
    response = session.call("POST", "/input", json={"value": value})
    assert (response.status_code, response.content) == (204, b""), response.text


def test_prompts_of_a_stream_can_be_answered(session: Session) -> None:
    """Each `input()` and `getpass()` sends an `input_request`, and the code gets the posted answer."""
    code = dedent("""
        from getpass import getpass
        name = input("Your name? ")
        secret = getpass("Password: ")
        empty = input()
        print(repr((name, secret, empty)))
    """)
    answers = iter(["Ada é 🎉", "hush", ""])
    prompts = []
    received = []
    with session.open_stream(code, allow_stdin=True) as events:
        for event in events:
            received.append(event)
            if event.type == "input_request":
                prompts.append((event.data["prompt"], event.data["password"]))
                assert session.describe()["state"] == "busy"
                answer(session, next(answers))
    assert prompts == [("Your name? ", False), ("Password: ", True), ("", False)]
    assert repr(("Ada é 🎉", "hush", "")) in text_of(received, "stdout")
    assert result_of(received)["exit_code"] == 0
    unasked = session.call("POST", "/input", json={"value": "x"})
    assert unasked.status_code == 409
    assert problem(unasked)["code"] == "no_input_request"


@pytest.mark.parametrize("end", ["interrupt", "timeout", "leave"])
def test_unanswered_prompt_ends(session: Session, end: str) -> None:
    """An interrupt, the timeout or a disconnect ends a call that waits for input."""
    session.run("marker = 'here'")
    timeout_ms = 1500 if end == "timeout" else 25_000
    received = []
    with session.open_stream("input('? ')", allow_stdin=True, timeout_ms=timeout_ms) as events:
        for event in events:
            received.append(event)
            if event.type == "input_request" and end == "interrupt":
                session.interrupt()
            if event.type == "input_request" and end == "leave":
                break
    if end != "leave":
        result = result_of(received)
        assert result["timed_out"] is (end == "timeout")
        expected = {"timeout": "TimeoutExceeded", "interrupt": "KeyboardInterrupt"}[end]
        assert result["error"]["name"] == expected
        assert result["state"] == "kept"
    assert session.printed("marker") == "'here'"
    if end == "leave":
        assert session.cells()[-2]["result"]["error"]["name"] == "KeyboardInterrupt"
    refused = session.call("POST", "/input", json={"value": "late"})
    assert (refused.status_code, problem(refused)["code"]) == (409, "no_input_request")


def test_given_stdin_is_read_without_a_prompt(session: Session) -> None:
    """With `stdin` there is no `input_request`."""
    events = session.stream("print(input())", stdin="given\n", allow_stdin=True)
    assert text_of(events, "stdout") == "given\n"
    assert "input_request" not in {event.type for event in events}


def test_two_sessions_can_wait_for_input_at_the_same_time(service: Service, session: Session) -> None:
    """Each session gets the answer that was posted to it."""

    def ask(one: Session) -> str:
        with one.open_stream("print(input('? '))", allow_stdin=True) as events:
            return text_of(list(events), "stdout")

    with new_session(service) as other, ThreadPoolExecutor(2) as threads:
        asking = {one.id: threads.submit(ask, one) for one in (session, other)}
        for one in (other, session):
            deadline = time.monotonic() + 60
            while one.call("POST", "/input", json={"value": one.id}).status_code == 409:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        for one in (session, other):
            assert asking[one.id].result(60).strip().endswith(one.id)
