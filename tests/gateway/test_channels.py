"""Requests over a kernel's channels: cells, completion and the like, input, interrupts."""

from collections.abc import Iterator

import pytest

from tests.gateway.channels import Channels, Message, Outcome, is_status, open_channels
from tests.support.process import Service
from tests.support.session import WAIT_FOR_FILE, Session


@pytest.fixture(params=[False, True], ids=["default", "v1"])
def either(request: pytest.FixtureRequest, service: Service, session: Session) -> Iterator[Channels]:
    """A WebSocket with frames of each form."""
    with open_channels(service, session.id, v1=request.param) as opened:
        assert opened.is_v1 == request.param
        yield opened


def test_cell_prints_text_and_returns_a_value(either: Channels) -> None:
    """The value is a result and not part of the text. Busy comes first and idle last."""
    outcome = either.run("print('hello')\n6 * 7")
    assert outcome.status == "ok"
    assert outcome.text == "hello\n"
    assert outcome.data() == {"text/plain": "42"}
    assert is_status(outcome.messages[-1], "idle")
    assert any(is_status(message, "busy") for message in outcome.messages[:-1])
    (executed,) = outcome.of("execute_input")
    assert executed["content"]["code"] == "print('hello')\n6 * 7"
    # JupyterLab takes another session id for another kernel.
    assert len({message["header"]["session"] for message in [*outcome.messages, outcome.reply]}) == 1
    count = outcome.reply["content"]["execution_count"]
    assert executed["content"]["execution_count"] == count
    assert outcome.of("execute_result")[0]["content"]["execution_count"] == count
    assert outcome.reply["content"]["payload"] == []
    assert outcome.reply["content"]["user_expressions"] == {}


def test_exception_is_an_error_message_and_not_text(either: Channels) -> None:
    """The traceback is published once, line by line, and is also in the reply."""
    outcome = either.run("def f():\n    1 / 0\nf()")
    (error,) = outcome.of("error")
    assert outcome.status == "error"
    assert outcome.text == ""
    for content in (error["content"], outcome.reply["content"]):
        assert content["ename"] == "ZeroDivisionError"
        assert content["evalue"] == "division by zero"
        assert "f()" in "\n".join(content["traceback"])
        assert not any(line.endswith("\n") for line in content["traceback"])


def test_plot_is_displayed_as_an_image(channels: Channels) -> None:
    """Matplotlib's open figures are displayed at the end of the cell."""
    outcome = channels.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    assert outcome.data("display_data")["image/png"].startswith("iVBOR")


def test_text_and_displays_arrive_in_the_order_of_the_code(channels: Channels) -> None:
    """Each number is printed before it is displayed, also by child processes."""
    outcome = channels.run(
        "import os, subprocess\n"
        "for i in range(12):\n"
        "    if i % 3 == 0: print(i)\n"
        "    elif i % 3 == 1: os.write(1, f'{i}\\n'.encode())\n"
        "    else: subprocess.run(['echo', str(i)])\n"
        "    display({'text/plain': str(i)}, raw=True)\n"
        "print('end')"
    )
    assert outcome.transcript == "".join(f"{i}\n<{i}>" for i in range(12)) + "end\n"


def test_clear_output_arrives_between_the_texts(channels: Channels) -> None:
    """Clients do not clear the text that is printed after it."""
    outcome = channels.run(
        "from IPython.display import clear_output\nprint('old')\nclear_output(wait=True)\nprint('new')"
    )
    (clear,) = outcome.of("clear_output")
    assert clear["content"] == {"wait": True}
    at = outcome.messages.index(clear)
    assert Outcome({}, outcome.messages[:at]).text == "old\n"
    assert Outcome({}, outcome.messages[at:]).text == "new\n"


def test_cell_updates_a_display_of_an_earlier_cell(channels: Channels) -> None:
    """The update has the display id of the original display."""
    shown = channels.run("handle = display('before', display_id=True)").of("display_data")[0]
    (update,) = channels.run("handle.update('after')").of("update_display_data")
    assert update["content"]["transient"] == shown["content"]["transient"]
    assert update["content"]["data"] == {"text/plain": "'after'"}


@pytest.mark.parametrize(
    ("call", "password"), [("input('Who? ')", False), ("__import__('getpass').getpass()", True)]
)
def test_input_request_is_answered(channels: Channels, call: str, password: bool) -> None:
    """The prompt arrives on the stdin channel, and the code reads the answer."""
    outcome = channels.run(call, answer="Ada")
    (asked,) = outcome.of("input_request")
    assert asked["content"]["password"] is password
    assert password or asked["content"]["prompt"] == "Who? "
    assert outcome.data() == {"text/plain": "'Ada'"}


def test_input_fails_if_stdin_is_not_allowed(channels: Channels) -> None:
    """With `allow_stdin` false, `input()` reads end of file, as over the REST API."""
    outcome = channels.run("input()", allow_stdin=False)
    assert outcome.reply["content"]["ename"] == "EOFError"


def test_debugger_is_used_from_a_notebook(channels: Channels) -> None:
    """Each command answers a request for input. Steps stay in the program."""
    request = channels.begin("breakpoint()\nx = 20\ny = x + 1\ny")
    for command in ("n", "p x", "n", "c"):
        assert channels.until_kind("input_request")["content"]["prompt"] == "(Pdb) "
        channels.send("input_reply", {"value": command}, "stdin")
    outcome = channels.outcome(request)
    assert outcome.status == "ok" and outcome.data() == {"text/plain": "21"}


@pytest.mark.parametrize("answer", ["q", None], ids=["quit", "no input"])
def test_cell_that_a_debugger_ends_has_failed(channels: Channels, answer: str | None) -> None:
    """The notebook gets the error, whether the caller quits or gives no input."""
    outcome = channels.run("breakpoint()\nx = 1\nprint('after')", answer, allow_stdin=answer is not None)
    assert outcome.reply["content"]["ename"] == "BdbQuit" and "after\n" not in outcome.text
    assert [message["content"]["ename"] for message in outcome.of("error")] == ["BdbQuit"]
    assert channels.run("print('next')").text == "next\n"


@pytest.mark.parametrize("how", ["rest", "control"])
def test_interrupt_ends_the_cell_and_keeps_the_kernel(
    service: Service, session: Session, channels: Channels, how: str
) -> None:
    """The REST call and the message on the control channel both interrupt. Variables are kept."""
    request = channels.begin("import time\nkept = 5\nprint('go')\nwhile True: time.sleep(0.1)")
    channels.until_kind("stream")
    if how == "rest":
        assert service.api.http.post(f"/api/kernels/{session.id}/interrupt").status_code == 204
    else:
        channels.send("interrupt_request", {}, "control")
    outcome = channels.outcome(request) if how == "rest" else None
    if outcome is None:
        assert channels.until_kind("interrupt_reply")["content"] == {"status": "ok"}
        channels.until_kind("execute_reply")
    else:
        assert outcome.reply["content"]["ename"] == "KeyboardInterrupt"
    assert channels.run("kept").data() == {"text/plain": "5"}


def test_kernel_answers_requests_that_run_no_code(channels: Channels) -> None:
    """Requests for completion, inspection, completeness, kernel info, comms and history get replies."""
    channels.run("import math\nhalf_of_it = 21")
    assert channels.ask("complete", code="half_o", cursor_pos=6)["matches"] == ["half_of_it"]
    found = channels.ask("inspect", code="math.sqrt", cursor_pos=9, detail_level=0)
    assert found["found"] and "square root" in found["data"]["text/plain"]
    assert channels.ask("is_complete", code="for i in x:")["status"] == "incomplete"
    assert channels.ask("kernel_info")["language_info"]["name"] == "python"
    assert channels.ask("kernel_info", channel="control")["status"] == "ok"
    assert channels.ask("comm_info")["comms"] == {}
    assert channels.ask("history", hist_access_type="tail", n=1, output=False, raw=True)["history"] == []


def test_unsupported_request_gets_an_error_reply(channels: Channels) -> None:
    """No request stays without a reply, on either channel."""
    for channel in ("shell", "control"):
        request = channels.send("debug_request", {"command": "x"}, channel)
        reply = channels.reply(request)
        assert reply["header"]["msg_type"] == "debug_reply"
        assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "NotSupported")


def test_cell_without_code_is_refused(channels: Channels) -> None:
    """The next cell runs."""
    reply = channels.outcome(channels.send("execute_request", {})).reply
    assert reply["content"]["ename"] == "BadRequest"
    assert channels.run("1").status == "ok"


def test_reply_has_user_expressions_and_payloads(channels: Channels) -> None:
    """The gateway takes these fields from the kernel's reply."""
    reply = channels.run(
        "get_ipython().set_next_input('next')", user_expressions={"a": "6 * 7", "b": "1 / 0"}
    ).reply["content"]
    assert reply["user_expressions"]["a"]["data"] == {"text/plain": "42"}
    assert reply["user_expressions"]["b"]["status"] == "error"
    assert reply["payload"][0]["source"] == "set_next_input"


def test_silent_cells_do_not_increase_the_execution_count(channels: Channels) -> None:
    """Neither do cells that are not stored in the history."""
    before = channels.run("1").reply["content"]["execution_count"]
    assert channels.run("2 + 2", silent=True).of("execute_result") == []
    assert channels.run("3", store_history=False).status == "ok"
    assert channels.run("4").reply["content"]["execution_count"] == before + 1


def test_requests_of_a_client_are_carried_out_in_order(channels: Channels) -> None:
    """Cells wait for earlier cells, and a completion request waits for the cells before it."""
    first = channels.begin("import time\nseen = []\ntime.sleep(0.3)\nseen.append(1)")
    channels.begin("seen.append(2)")
    question = channels.send("complete_request", {"code": "see", "cursor_pos": 3})
    third = channels.begin("seen")
    order: list[str] = []
    while len(order) < 4:
        message = channels.receive()
        if message["header"]["msg_type"].endswith("_reply"):
            order.append(message["parent_header"]["msg_id"])
        elif message["header"]["msg_type"] == "execute_result":
            assert message["content"]["data"] == {"text/plain": "[1, 2]"}
    assert order[0] == first
    assert set(order[2:]) == {question, third}


def test_error_aborts_the_waiting_cells(channels: Channels) -> None:
    """With `stop_on_error` false, the waiting cells run."""
    failing = channels.begin("input()\n1 / 0")
    waiting = channels.begin("print('ran')")
    assert channels.outcome(failing, answer="go").status == "error"
    aborted = channels.outcome(waiting)
    assert (aborted.status, aborted.text) == ("aborted", "")
    failing = channels.begin("input()\n1 / 0", stop_on_error=False)
    waiting = channels.begin("print('ran')")
    assert channels.outcome(failing, answer="go").status == "error"
    assert channels.outcome(waiting).text == "ran\n"


def test_notebook_and_rest_api_share_kernel_and_history(
    session: Session, channels: Channels, service: Service
) -> None:
    """A notebook reads an agent's variable. Both cells are in the history and the exported notebook."""
    session.run("shared = 40")
    count = channels.run("print('from the notebook')\nshared + 2").reply["content"]["execution_count"]
    assert session.run("shared + 3")["execution_count"] == count + 1
    *_, of_notebook, last = session.cells()
    assert last["code"] == "shared + 3"
    assert of_notebook["code"] == "print('from the notebook')\nshared + 2"
    assert of_notebook["result"]["stdout"] == "from the notebook\n"
    assert of_notebook["result"]["outputs"][0]["data"] == {"text/plain": "42"}
    assert of_notebook["result"]["execution_count"] == count
    exported = session.call("GET", "/notebook").json()
    outputs = exported["cells"][-2]["outputs"]
    assert [output["output_type"] for output in outputs] == ["stream", "execute_result"]


def test_cell_of_a_notebook_waits_for_an_agents_cell(session: Session, channels: Channels) -> None:
    """The notebook shows a busy kernel while the agent's cell runs."""
    cell = session.detach("import time\ntime.sleep(1)\nagent = 'done'")
    channels.until(lambda message: is_status(message, "busy"))
    assert channels.run("agent").data() == {"text/plain": "'done'"}
    assert session.finished(cell)["state"] == "done"


def test_client_that_connects_while_code_runs_gets_the_busy_status(service: Service, fresh: Session) -> None:
    """A notebook that is opened meanwhile shows a busy kernel."""
    cell = fresh.detach(WAIT_FOR_FILE)
    with open_channels(service, fresh.id) as opened:
        assert is_status(opened.receive(), "busy")
        fresh.put("go", b"")
        opened.until(lambda message: is_status(message, "idle"))
    fresh.finished(cell)


def test_every_client_receives_the_outputs_of_all_cells(
    service: Service, session: Session, channels: Channels
) -> None:
    """Outputs have the parent of the request. Only the client that sent the request gets the reply."""
    with open_channels(service, session.id) as other:
        request = channels.begin("print('for all')\n'x'")
        assert channels.outcome(request).status == "ok"
        seen: list[Message] = []
        while not (seen and is_status(seen[-1], "idle")):
            message = other.receive()
            if message["parent_header"].get("msg_id") == request:
                seen.append(message)
    kinds = {message["header"]["msg_type"] for message in seen}
    assert {"stream", "execute_result", "status"} <= kinds
    assert {message["channel"] for message in seen} == {"iopub"}


def test_order_holds_while_a_thread_of_an_earlier_cell_publishes(channels: Channels) -> None:
    """The displays of the thread do not delay or reorder the output of the cell."""
    channels.run(
        "import threading, time\nrunning = True\n"
        "def show():\n    while running: display({'text/plain': 'thread'}, raw=True); time.sleep(0.01)\n"
        "threading.Thread(target=show).start()"
    )
    outcome = channels.run(
        "for i in range(20):\n    print(i)\n    display({'text/plain': str(i)}, raw=True)\n"
        "    time.sleep(0.02)\n"
        "running = False"
    )
    assert outcome.transcript.replace("<thread>", "") == "".join(f"{i}\n<{i}>" for i in range(20))


def test_marks_of_a_background_thread_are_not_in_the_output_of_a_command(
    session: Session, channels: Channels
) -> None:
    """The thread displays values while a shell command runs."""
    channels.run(
        "import threading, time\n"
        "def show():\n    for i in range(20): display(i); time.sleep(0.05)\n"
        "threading.Thread(target=show).start()"
    )
    assert session.bash("sleep 0.5; echo done")["stdout"] == "done\n"


def test_much_text_arrives_whole_and_in_fewer_messages_than_lines(channels: Channels) -> None:
    """Lines that are printed one by one are joined on their way."""
    outcome = channels.run("for i in range(20_000): print(i)")
    assert outcome.text == "".join(f"{i}\n" for i in range(20_000))
    assert len(outcome.of("stream")) < 20_000


def test_text_arrives_while_the_cell_runs(channels: Channels) -> None:
    """The cell ends only after the client has received its text."""
    request = channels.begin("print('early')\ninput()")
    assert "early" in channels.until_kind("stream")["content"]["text"]
    assert channels.outcome(request, answer="go on").status == "ok"
