"""Text and displays in the order in which they were made, wherever there is an order."""

from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from tests.support.api import Body
from tests.support.process import Service
from tests.support.sse import Event

ALTERNATING = "print('a'); display('x'); print('b'); display('y'); print('c')"
TRANSCRIPT = "a\n<'x'>b\n<'y'>c\n"

PROGRAMS = [
    pytest.param(ALTERNATING, TRANSCRIPT, id="print and display"),
    pytest.param(
        "print('a', end=''); display('x'); print('b', end=''); display('y'); print('c', end='')",
        "a<'x'>b<'y'>c",
        id="no newline",
    ),
    pytest.param(
        "import sys\nfor i in range(3):\n  print('e', i, file=sys.stderr); display(i); print('o', i)",
        "e 0\n<0>o 0\ne 1\n<1>o 1\ne 2\n<2>o 2\n",
        id="stderr",
    ),
    pytest.param(
        "import sys\nfor i in range(5):\n  print(i); print(-i, file=sys.stderr)",
        "".join(f"{i}\n{-i}\n" for i in range(5)),
        id="stdout and stderr",
    ),
    pytest.param(
        "import os, subprocess\nos.write(1, b'one|'); display('x')\nsubprocess.run(['echo', 'two'])\n"
        "display('y')\n!echo three\ndisplay('z')",
        "one|<'x'>two\n<'y'>three\n<'z'>",
        id="descriptors and child processes",
    ),
    pytest.param(
        "for i in range(400):\n  print(i); display(i)",
        "".join(f"{i}\n<{i}>" for i in range(400)),
        id="many",
    ),
    pytest.param(
        "import threading\n"
        "turns = [threading.Semaphore(1), threading.Semaphore(0)]\n"
        "def speak(me):\n"
        "  for i in range(20):\n"
        "    turns[me].acquire(); print(me, i); display(f'{me}{i}'); turns[1 - me].release()\n"
        "threads = [threading.Thread(target=speak, args=(me,)) for me in (0, 1)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads];",
        "".join(f"{me} {i}\n<'{me}{i}'>" for i in range(20) for me in (0, 1)),
        id="two threads",
    ),
    pytest.param(
        "print('old'); display('old'); print('older', end='')\nfrom IPython.display import clear_output\n"
        "clear_output(); print('new'); display('new')",
        "new\n<'new'>",
        id="cleared at once",
    ),
    pytest.param(
        "from IPython.display import clear_output\n"
        "for i in range(3):\n  clear_output(wait=True); print('step', i); display(i)",
        "step 2\n<2>",
        id="cleared by text",
    ),
    pytest.param(
        "from IPython.display import clear_output\n"
        "print('old'); display('old'); clear_output(wait=True); display('new'); print('end')",
        "<'new'>end\n",
        id="cleared by a display",
    ),
    pytest.param(
        "from IPython.display import clear_output\nprint('kept'); display('kept'); clear_output(wait=True)",
        "kept\n<'kept'>",
        id="nothing follows the clearing",
    ),
    pytest.param(
        "shown = display('one', display_id=True); print('a'); shown.update('two'); print('b')",
        "<'two'>a\nb\n",
        id="updated in place",
    ),
    pytest.param("print('a'); display('x'); print('b'); 6 * 7", "a\n<'x'>b\n<42>", id="value"),
]


def transcript(outputs: list[dict[str, Any]]) -> str:
    """Return text as it is, and displays in brackets."""
    return "".join(
        output["text"] if output["output_type"] == "stream" else f"<{output['data']['text/plain']}>"
        for output in outputs
        if output["output_type"] != "error"
    )


def folded(events: list[Event]) -> str:
    """Return what a reader of the stream shows at the end, by the rules of the documentation."""
    shown: list[list[Any]] = []
    clear_next = False
    for event in events:
        data = event.data
        if event.type == "clear_output":
            clear_next = data["wait"]
            shown = shown if data["wait"] else []
        elif event.type == "display" and data["output_type"] == "update_display_data":
            for entry in shown:
                if entry[0] == data["transient"]["display_id"]:
                    entry[1] = f"<{data['data']['text/plain']}>"
        elif event.type in ("output", "display"):
            shown, clear_next = ([] if clear_next else shown), False
            if event.type == "output":
                if not shown or shown[-1][0] != "text":
                    shown.append(["text", ""])
                shown[-1][1] += data["data"]
            else:
                value = data["data"]["text/plain"]
                if data["output_type"] == "execute_result":
                    shown[-1][1] = shown[-1][1].removesuffix(f"{value}\n")
                shown.append([(data.get("transient") or {}).get("display_id"), f"<{value}>"])
    return "".join(text for _, text in shown)


@pytest.fixture(scope="module")
def session_id(service: Service) -> Iterator[str]:
    """A session for all tests of this file."""
    identifier = service.api.http.post("/v1/sessions", json={}).json()["session_id"]
    yield identifier
    service.api.http.delete(f"/v1/sessions/{identifier}")


def execute(service: Service, code: str, path: str = "/v1/execute", **query: str) -> Body:
    """Run code and return the answer."""
    answer = service.api.http.post(path, json={"code": code, "timeout_ms": 9000}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize(("code", "expected"), PROGRAMS)
def test_text_and_displays_are_in_order_everywhere(
    service: Service, session_id: str, code: str, expected: str
) -> None:
    """One-shot and in a session: the answer, the stream, the history and the notebook agree."""
    answer = execute(service, code, outputs="ordered")
    plain = execute(service, code)
    assert transcript(answer["outputs"]) == expected
    assert (answer["stdout"], answer["stderr"]) == (plain["stdout"], plain["stderr"])
    assert [output for output in answer["outputs"] if output["output_type"] != "stream"] == plain["outputs"]

    path = f"/v1/sessions/{session_id}"
    inside = execute(service, code, f"{path}/execute", outputs="ordered")
    assert transcript(inside["outputs"]) == expected
    for where in ({}, {"session_id": session_id}):
        events = service.api.stream(code, timeout_ms=9000, **where)
        assert folded(events) == expected
        assert not [event for event in events if event.type == "output" and "\x1e" in event.data["data"]]

    stored = service.api.http.get(f"{path}/cells/{inside['cell_id']}", params={"outputs": "ordered"}).json()
    assert transcript(stored["result"]["outputs"]) == expected
    notebook = service.api.http.get(f"{path}/notebook").json()
    nbformat.validate(notebook)
    [cell] = [cell for cell in notebook["cells"] if cell["id"] == inside["cell_id"]]
    assert transcript(cell["outputs"]) == expected


def test_a_traceback_follows_the_displays_before_it(service: Service, session_id: str) -> None:
    """In the stream it is text after the display. In a notebook it is an error, and no text of stderr."""
    code = "import sys\nprint('warned', file=sys.stderr); display('x'); print('b'); 1 / 0"
    events = service.api.stream(code)
    assert [event.type for event in events] == ["output", "display", "output", "output", "result"]
    assert events[3].data["data"].startswith("Traceback")
    path = f"/v1/sessions/{session_id}"
    inside = execute(service, code, f"{path}/execute")
    [cell] = [
        cell
        for cell in service.api.http.get(f"{path}/notebook").json()["cells"]
        if cell["id"] == inside["cell_id"]
    ]
    assert transcript(cell["outputs"]) == "warned\n<'x'>b\n"
    assert cell["outputs"][-1]["ename"] == "ZeroDivisionError"


def test_characters_of_all_kinds_are_in_order_in_the_history(service: Service, session_id: str) -> None:
    """Positions in stored text count neither characters nor the bytes of UTF-8, but those of its JSON."""
    code = "print('é\"\\\\\\n\\t\\x00中😀', end=''); display('x'); print('中\"'); display('y'); 1 / 0"
    path = f"/v1/sessions/{session_id}"
    inside = execute(service, code, f"{path}/execute", outputs="ordered")
    stored = service.api.http.get(f"{path}/cells/{inside['cell_id']}", params={"outputs": "ordered"}).json()
    assert stored["result"]["outputs"] == inside["outputs"]
    assert transcript(inside["outputs"]).startswith("é\"\\\n\t\x00中😀<'x'>中\"\n<'y'>")


def test_a_display_of_a_forked_child_delays_no_text(service: Service) -> None:
    """The child cannot publish messages, so that no text may wait for one."""
    code = (
        "import os, time\nif os.fork() == 0:\n  display('lost'); os._exit(0)\nos.wait()\n"
        "print('early')\ntime.sleep(3)\nprint('late')"
    )
    texts = [event for event in service.api.stream(code, timeout_ms=9000) if event.type == "output"]
    assert [event.data["data"] for event in texts] == ["early\n", "late\n"]


def test_many_alternations_take_a_bounded_number_of_outputs(service: Service) -> None:
    """All text is there. Beyond some thousands of pieces, text of a stream is joined to its last piece."""
    code = "import sys\nfor i in range(9000):\n  print('o'); print('e', file=sys.stderr)"
    answer = execute(service, code, outputs="ordered")
    outputs = answer["outputs"]
    assert 3000 < len(outputs) < 4100
    for name in ("stdout", "stderr"):
        assert "".join(out["text"] for out in outputs if out["name"] == name) == answer[name]
    assert transcript(outputs[:1000]) == "o\ne\n" * 500


def test_marks_do_not_count_as_text(service: Service) -> None:
    """Text up to the limit is complete, however many displays are in it. Displays go on after the limit."""
    code = "for i in range(2000):\n  print('x' * 511)\n  if i % 2: display(i)"
    answer = execute(service, code, outputs="ordered")
    assert len(answer["stdout"]) == 2000 * 512
    assert answer["truncated"] == []


def test_a_forged_mark_hides_no_text_and_no_display(service: Service) -> None:
    """Code that knows its kernel's key can make up marks. All that it prints and shows is still returned."""
    code = (
        "import hashlib\nkey = get_ipython().kernel.session.key.decode()\n"
        "token = hashlib.sha256(key.encode()).hexdigest()[:16]\n"
        "print('a'); print(f'\\x1e{token}99999 none\\x1f', end=''); display('x'); print('b'); display('y')"
    )
    answer = execute(service, code, outputs="ordered")
    assert answer["stdout"] == "a\nb\n"
    assert sorted(out["data"]["text/plain"] for out in answer["outputs"] if "data" in out) == ["'x'", "'y'"]


@pytest.mark.parametrize("path", ["/v1/execute", "/v1/execute/stream"])
def test_an_unknown_order_is_refused(service: Service, path: str) -> None:
    """The problem names the parameter."""
    refused = service.api.http.post(path, json={"code": "1"}, params={"outputs": "sorted"})
    assert refused.status_code == 422
    assert "outputs" in refused.text


def test_the_result_of_a_stream_has_the_order_on_request(service: Service) -> None:
    """The text of the stream is then in its result, too."""
    with service.api.http.stream(
        "POST", "/v1/execute/stream", json={"code": ALTERNATING}, params={"outputs": "ordered"}
    ) as stream:
        body = stream.read().decode()
    assert '"output_type": "stream"' in body or '"output_type":"stream"' in body
