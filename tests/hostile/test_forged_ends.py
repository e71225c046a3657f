"""Tests of user code that reports the end of a cell that still runs, in messages or to the supervisor."""

import json
from textwrap import dedent
from typing import Any

import pytest

from service.routes.schemas.execute import ExecuteResult
from tests.hostile.conftest import MEGABYTE
from tests.hostile.forgery import FORGE, LISTS, NONSENSE, valid_outputs
from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.usefixtures("canary")

FORGED_END = {
    "idle before the end": "publish('status', {'execution_state': 'idle'})",
    "idle for all parents": "for _ in range(2000): publish('status', {'execution_state': 'idle'})",
    "reply before the real one": "reply({'status': 'ok', 'execution_count': 1})",
    "reply that reports an error": "reply({'status': 'error', 'ename': 'Forged', 'traceback': 'no list'})",
    "invalid replies": f"""for value in [{NONSENSE}]:
    reply(value); reply({{'status': value, 'ename': value, 'evalue': value, 'traceback': value,
           'execution_count': value, 'code_interpreter': value}})
    reply({{'code_interpreter': {{'exit_code': value}}}})""",
    "reply with a traceback of many megabytes": """reply({'status': 'error', 'ename': 'x' * 1000000,
    'evalue': 'x' * 1000000, 'traceback': ['x' * 1000] * 12000})""",
    "exit code of a million digits": """reply(b'{"status":"error","code_interpreter":{"exit_code":'
    + b'9' * 1000000 + b'}}')
reply(b'{"status":"error","code_interpreter":{"exit_code":' + b'9' * 4000 + b'}}')""",
    "replies of other kinds": """
for kind in ('kernel_info_reply', 'execute_input', 'shutdown_reply', '', 'x' * 60000):
    reply({'status': 'ok'}, kind=kind)""",
    "replies to other requests": """
for parent in ('', 'x', 'x' * 60000, own[:-1], own + '0', 'execute_request'):
    reply({'status': 'error', 'ename': 'Forged'}, parent=parent)
    publish('status', {'execution_state': 'idle'}, parent=parent)
    publish('display_data', bundle(text_plain='forged'), parent=parent)""",
}
"""Messages that report the end of a cell that still runs."""


@pytest.mark.parametrize("attack", FORGED_END.values(), ids=FORGED_END.keys())
def test_forged_end_affects_only_its_own_call(session: Session, attack: str) -> None:
    """The call has a valid answer in time. The next call has its own answer, not the forged one."""
    result = session.run(f"{FORGE}\n{attack}\ntime.sleep(0.2)\nprint('end')", timeout_ms=3000)
    valid_outputs(result)
    assert len(json.dumps(result)) < 2 * MEGABYTE
    following = session.run("print('mine')\n1 / 0")
    assert following["error"]["name"] == "ZeroDivisionError", following
    assert following["stdout"].endswith("mine\n")


def test_replies_cannot_be_left_for_the_next_call(session: Session) -> None:
    """Requests have random ids: replies to all ids that could be guessed are skipped."""
    attack = """session_id = own.rpartition('_')[0]
for number in range(300):
    for parent in (f'{session_id}_{number}', f'{own}_{number}', str(number)):
        reply({'status': 'ok', 'execution_count': 999, 'code_interpreter': {'exit_code': 0}}, parent=parent)
        publish('display_data', bundle(text_plain='forged'), parent=parent)
        publish('status', {'execution_state': 'idle'}, parent=parent)"""
    session.run(f"{FORGE}\n{attack}")
    following = session.run("import time; time.sleep(0.3); raise SystemExit(7)")
    assert (following["exit_code"], following["outputs"]) == (7, [])
    assert following["execution_count"] != 999


PIPE = FORGE + dedent("""
    def write(data):
        while data: data = data[os.write(kernel.supervisor_pipes._events, data):]
    line = lambda entry: json.dumps(entry).encode() + b"\\n"
""")

FORGED_EVENTS = {
    "nonsense": f"""for value in [{NONSENSE}]:
    write(line(value)); write(line({{"type": value}})); write(line({{"begin": value}}))
write(b"\\n" * 10000 + b"\\xff\\n{{\\n")""",
    "200,000 levels in a line": f"write({LISTS.format(200_000)} + b'\\n')",
    "endless line": "for _ in range(40): write(b'x' * 1_000_000)\nwrite(b'\\n')",
    "end of the cell": """write(line({"type": "record", "reply": {"status": "ok"}, "outputs": []}))
time.sleep(0.2)""",
    "end of the cell, a thousand times": """for _ in range(1000):
    write(line({"type": "record", "reply": 7, "outputs": {"a": 1}}))""",
    "end of another cell and begin of the next": """
write(line({"begin": "0" * 32}) + line({"exit": 0}))
os.write(kernel.supervisor_pipes._events, line({"answer": "x", "type": "end", "exit_code": 0}))""",
    "pipes filled from the wrong end": """
for number in os.listdir("/proc/self/fd"):
    try:
        if "pipe:" in os.readlink(f"/proc/self/fd/{number}"):
            other = os.open(f"/proc/self/fd/{number}", os.O_RDWR | os.O_NONBLOCK)
            os.write(other, b'{"begin": "x"}\\n' * 200)
    except OSError: pass""",
    "endless requests for input": """for number in range(20_000):
    write(line({"type": "input_request", "prompt": "x" * 100, "password": bool(number % 2)}))""",
    "huge request for input": """write(line({"type": "input_request", "prompt": "\\u2028" * 5_000_000,
    "password": False}))""",
}
"""Forged events, which user code writes to the pipe from its kernel to the supervisor."""


@pytest.mark.parametrize("attack", FORGED_EVENTS.values(), ids=FORGED_EVENTS.keys())
def test_forged_event_affects_only_its_own_call(session: Session, attack: str) -> None:
    """A streamed call that allows input has a valid end in time, and the next call works."""
    events = session.stream(f"{PIPE}\n{attack}\nprint('end')", timeout_ms=4000, allow_stdin=True)
    assert events[-1].type in ("result", "error")
    requests = [event for event in events if event.type == "input_request"]
    assert sum(len(json.dumps(event.data)) for event in requests) < 3 * MEGABYTE
    assert len(requests) <= 1000
    if events[-1].type == "result":
        ExecuteResult.model_validate(events[-1].data, strict=True)
    session.restart()
    assert session.printed("print(6 * 7)") == "42"


def test_forged_messages_end_a_one_shot_execution(target: Service) -> None:
    """The call has a valid answer in time."""
    attacks: dict[str, Any] = {
        "reply": "reply({'status': 'ok'})\ntime.sleep(600)",
        "idle": "publish('status', {'execution_state': 'idle'})\ndisplay('after')",
        "event": 'os.write(kernel.supervisor_pipes._events, b\'{"type": "record"}\\n\')\ntime.sleep(600)',
    }
    for name, attack in attacks.items():
        result = target.api.run(f"{FORGE}\nprint('began')\n{attack}", timeout_ms=4000)
        assert result["stdout"] == "began\n"
        # Displays that follow a forged idle status may be lost.
        shown = [output["data"]["text/plain"] for output in valid_outputs(result)]
        assert name != "idle" or shown in ([], ["'after'"])
