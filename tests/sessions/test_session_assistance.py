"""Completion and inspection: what a session's kernel says of code that is being written."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from typing import Any

import pytest

from sessions.kernels.assistance import Completion, Inspection, Question
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session, new_session


def ask(session: Session, what: str, code: str, **fields: Any) -> Body:
    """The answer to a question that is answered."""
    response = session.call("POST", f"/{what}", json={"code": code, **fields})
    assert response.status_code == 200, response.text[:500]
    body: Body = response.json()
    return body


def test_names_in_the_session_are_completed(session: Session) -> None:
    """Variables, attributes and files complete anywhere in the code, with the range that they replace."""
    session.run("treasure_chest = {'gold': 1}\nimport os\nopen('treasure.map', 'w').close()")
    assert ask(session, "complete", "x = treasure_c") == {
        "matches": ["treasure_chest"],
        "cursor_start": 4,
        "cursor_end": 14,
    }
    body = ask(session, "complete", "'Ünïcödé 🎉'; os.path.isd + 1", cursor_pos=24)
    assert "isdir" in [match.rpartition(".")[2] for match in body["matches"]]
    assert body["cursor_end"] == 24
    assert any("gold" in match for match in ask(session, "complete", "treasure_chest['g")["matches"])
    assert "treasure.map" in str(ask(session, "complete", "open('treas")["matches"])
    assert ask(session, "complete", "no_such_name_anywhere")["matches"] == []
    assert session.describe()["execution_count"] == 1


def test_name_is_described(session: Session) -> None:
    """The answer has signature and documentation as plain text, and the source if it is requested."""
    session.run('def dig(where, depth=2):\n    """Find treasure."""\n    return where * depth')
    inspected = ask(session, "inspect", "dig(3)", cursor_pos=2)
    assert inspected["found"] is True
    assert "dig(where, depth=2)" in inspected["data"]["text/plain"]
    assert "Find treasure." in inspected["data"]["text/plain"]
    assert "\x1b" not in inspected["data"]["text/plain"]
    assert "return where * depth" not in inspected["data"]["text/plain"]
    assert "return where * depth" in ask(session, "inspect", "dig", detail_level=1)["data"]["text/plain"]
    assert ask(session, "inspect", "no_such_name_anywhere") == {"found": False, "data": {}}


def test_questions_are_refused_while_code_runs(session: Session) -> None:
    """The answer is 409 at once, and the code is not disturbed. Later questions are answered again."""
    code = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.02)\nprint('undisturbed')"
    cell = session.detach(code, timeout_ms=30_000)
    for what in ("complete", "inspect"):
        assert problem(session.call("POST", f"/{what}", json={"code": "ti"}))["code"] == "session_busy"
    session.put("go.txt", b"")
    assert session.finished(cell)["result"]["stdout"] == "undisturbed\n"
    assert "time" in ask(session, "complete", "tim")["matches"]


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("complete", {}),
        ("complete", {"code": "pri", "cursor_pos": 4}),
        ("complete", {"code": "pri", "cursor_pos": -1}),
        ("complete", {"code": 5}),
        ("complete", {"code": "\ud800"}),
        ("inspect", {"code": "print", "detail_level": 2}),
    ],
)
def test_invalid_question_is_refused(session: Session, what: str, body: Body) -> None:
    """The answer is 422 and says what is wrong."""
    content = json.dumps(body)
    response = session.call("POST", f"/{what}", content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, problem(response)["code"]) == (422, "invalid_request")


HOSTILE = """
    class Odd:
        def __dir__(self):
            {dir}
        def __repr__(self):
            {repr}
    odd = Odd()
    kept = 'here'
"""


@pytest.mark.parametrize(
    ("directory", "shown"),
    [
        pytest.param("import time; time.sleep(600)", "import time; time.sleep(600)", id="hangs"),
        pytest.param(
            "return ['a' * 10_000_000] + [f'n{i}' for i in range(50_000)]",
            "return 'x' * 10_000_000",
            id="much",
        ),
        pytest.param("raise SystemExit(3)", "raise SystemExit(3)", id="exits"),
    ],
)
def test_objects_that_fail_to_complete_cost_neither_time_nor_state(
    session: Session, directory: str, shown: str
) -> None:
    """An answer comes within seconds and is of bounded size, whatever an object does when it is looked at."""
    session.run(dedent(HOSTILE).format(dir=directory, repr=shown))
    for what in ("complete", "inspect"):
        answer = session.call("POST", f"/{what}", json={"code": "odd." if what == "complete" else "odd"})
        assert answer.status_code == 200
        assert len(answer.content) < 3_000_000
    assert session.printed("kept") == "'here'"


def test_kernel_that_cannot_answer_gives_empty_answers(service: Service) -> None:
    """The kernel has ended or does not listen. The answer is empty, and the next call says what happened."""
    with new_session(service) as own_session:
        own_session.run("import os, threading; threading.Timer(0.2, os._exit, (1,)).start()")
        time.sleep(0.6)
        assert ask(own_session, "complete", "pri") == {"matches": [], "cursor_start": 3, "cursor_end": 3}
        assert ask(own_session, "inspect", "print") == {"found": False, "data": {}}
        assert own_session.run("1")["state"] == "restarted"
        assert "print" in ask(own_session, "complete", "pri")["matches"]


def test_questions_at_the_same_time_are_answered_one_after_the_other(session: Session) -> None:
    """A page that asks after each letter gets all answers, and a later call runs."""
    session.run("lighthouse = 1")
    letters = ["lighthouse"[:count] for count in range(3, 9)]
    with ThreadPoolExecutor(len(letters)) as threads:
        answers = list(threads.map(lambda code: ask(session, "complete", code), letters))
    assert all("lighthouse" in answer["matches"] for answer in answers)
    assert session.printed("lighthouse") == "1"


def test_invalid_replies_become_empty_answers() -> None:
    """User code can take over the kernel's port and send any reply."""
    question = Question("os.pa", 5)
    for reply in (
        {},
        {"matches": "x", "cursor_start": 0, "cursor_end": 1},
        {"matches": ["x"], "cursor_start": -1, "cursor_end": 1},
        {"matches": ["x"], "cursor_start": 0, "cursor_end": True},
    ):
        assert Completion.of(reply, question) == Completion((), 5, 5)
    reply = {"matches": ["a", 1, None, "b" * 2000], "cursor_start": 90, "cursor_end": 99}
    assert Completion.of(reply, question) == Completion(("a",), 5, 5)
    assert Inspection.of({"found": True, "data": [1]}).data == {}
    assert Inspection.of({"found": "yes", "data": {"text/plain": "x"}}).data == {}
    assert Inspection.of({"found": True, "data": {"text/plain": "x", "a" * 200: "y", "b": 1}}).data == {
        "text/plain": "x"
    }
