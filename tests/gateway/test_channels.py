"""What a notebook does over a kernel's channels: cells, questions, input, interrupts."""

import time
from collections.abc import Iterator

import pytest

from tests.gateway.channels import Channels, Message, is_status, open_channels
from tests.support.process import Service
from tests.support.session import Session


@pytest.fixture(params=[False, True], ids=["default", "v1"])
def either(request: pytest.FixtureRequest, service: Service, session: Session) -> Iterator[Channels]:
    """A socket in each of the protocols."""
    with open_channels(service, session.id, v1=request.param) as opened:
        assert opened.is_v1 == request.param
        yield opened


def test_a_cell_prints_and_has_a_value(either: Channels) -> None:
    """Text is a stream, the value a result and not text as well; busy comes first and idle last."""
    outcome = either.run("print('hello')\n6 * 7")
    assert outcome.status == "ok"
    assert outcome.text == "hello\n"
    assert outcome.data() == {"text/plain": "42"}
    assert is_status(outcome.told[-1], "idle")
    assert any(is_status(message, "busy") for message in outcome.told[:-1])
    (told,) = outcome.of("execute_input")
    assert told["content"]["code"] == "print('hello')\n6 * 7"
    # JupyterLab takes another session id for another kernel.
    assert len({message["header"]["session"] for message in [*outcome.told, outcome.reply]}) == 1
    count = outcome.reply["content"]["execution_count"]
    assert told["content"]["execution_count"] == count
    assert outcome.of("execute_result")[0]["content"]["execution_count"] == count
    assert outcome.reply["content"]["payload"] == []
    assert outcome.reply["content"]["user_expressions"] == {}


def test_an_exception_is_an_error_message_and_no_text(either: Channels) -> None:
    """The traceback is told once, line by line, and is in the reply as well."""
    outcome = either.run("def f():\n    1 / 0\nf()")
    (error,) = outcome.of("error")
    assert outcome.status == "error"
    assert outcome.text == ""
    for content in (error["content"], outcome.reply["content"]):
        assert content["ename"] == "ZeroDivisionError"
        assert content["evalue"] == "division by zero"
        assert "f()" in "\n".join(content["traceback"])
        assert not any(line.endswith("\n") for line in content["traceback"])


def test_a_plot_comes_as_an_image(channels: Channels) -> None:
    """Matplotlib's figures are shown at the end of the cell."""
    outcome = channels.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    assert outcome.data("display_data")["image/png"].startswith("iVBOR")


def test_text_and_outputs_come_in_the_order_they_were_made(channels: Channels) -> None:
    """Also from child processes: each number is printed before it is shown."""
    outcome = channels.run(
        "import os, subprocess\n"
        "for i in range(12):\n"
        "    if i % 3 == 0: print(i)\n"
        "    elif i % 3 == 1: os.write(1, f'{i}\\n'.encode())\n"
        "    else: subprocess.run(['echo', str(i)])\n"
        "    display({'text/plain': str(i)}, raw=True)\n"
        "print('end')"
    )
    heard = ""
    for message in outcome.told:
        match message["header"]["msg_type"]:
            case "stream":
                heard += message["content"]["text"]
            case "display_data":
                heard += f"<{message['content']['data']['text/plain']}>"
    assert heard == "".join(f"{i}\n<{i}>" for i in range(12)) + "end\n"


def test_clear_output_comes_between_the_texts(channels: Channels) -> None:
    """What is printed after it is not cleared."""
    outcome = channels.run(
        "from IPython.display import clear_output\nprint('old')\nclear_output(wait=True)\nprint('new')"
    )
    (clear,) = outcome.of("clear_output")
    assert clear["content"] == {"wait": True}
    before = outcome.kinds[: outcome.kinds.index("clear_output")].count("stream")
    texts = [message["content"]["text"] for message in outcome.of("stream")]
    assert ("".join(texts[:before]), "".join(texts[before:])) == ("old\n", "new\n")


def test_displays_are_updated_across_cells(channels: Channels) -> None:
    """The update of what an earlier cell has shown reaches the notebook."""
    shown = channels.run("handle = display('before', display_id=True)").of("display_data")[0]
    (update,) = channels.run("handle.update('after')").of("update_display_data")
    assert update["content"]["transient"] == shown["content"]["transient"]
    assert update["content"]["data"] == {"text/plain": "'after'"}


@pytest.mark.parametrize(
    ("call", "password"), [("input('Who? ')", False), ("__import__('getpass').getpass()", True)]
)
def test_input_is_asked_for_and_answered(channels: Channels, call: str, password: bool) -> None:
    """The prompt comes on the stdin channel, and the answer is what the code reads."""
    outcome = channels.run(call, answer="Ada")
    (asked,) = outcome.of("input_request")
    assert asked["content"]["password"] is password
    assert password or asked["content"]["prompt"] == "Who? "
    assert outcome.data() == {"text/plain": "'Ada'"}


def test_without_stdin_nobody_is_asked(channels: Channels) -> None:
    """`allow_stdin` false is end of file, as in the API."""
    outcome = channels.run("input()", allow_stdin=False)
    assert outcome.reply["content"]["ename"] == "EOFError"


@pytest.mark.parametrize("how", ["rest", "control"])
def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(
    service: Service, session: Session, channels: Channels, how: str
) -> None:
    """By the REST call or by a message, after which variables are there."""
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


def test_questions_are_answered_by_the_kernel(channels: Channels) -> None:
    """Completion, inspection, completeness, kernel info, comms, history."""
    channels.run("import math\nhalf_of_it = 21")
    assert channels.ask("complete", code="half_o", cursor_pos=6)["matches"] == ["half_of_it"]
    found = channels.ask("inspect", code="math.sqrt", cursor_pos=9, detail_level=0)
    assert found["found"] and "square root" in found["data"]["text/plain"]
    assert channels.ask("is_complete", code="for i in x:")["status"] == "incomplete"
    assert channels.ask("kernel_info")["language_info"]["name"] == "python"
    assert channels.ask("kernel_info", channel="control")["status"] == "ok"
    assert channels.ask("comm_info")["comms"] == {}
    assert channels.ask("history", hist_access_type="tail", n=1, output=False, raw=True)["history"] == []


def test_what_is_not_supported_is_said_to_be(channels: Channels) -> None:
    """No request is left without a reply."""
    for channel in ("shell", "control"):
        request = channels.send("debug_request", {"command": "x"}, channel)
        reply = channels.reply(request)
        assert reply["header"]["msg_type"] == "debug_reply"
        assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "NotSupported")


def test_a_cell_without_code_is_refused(channels: Channels) -> None:
    """And those after it run."""
    reply = channels.outcome(channels.send("execute_request", {})).reply
    assert reply["content"]["ename"] == "BadRequest"
    assert channels.run("1").status == "ok"


def test_expressions_and_payloads_come_with_the_reply(channels: Channels) -> None:
    """What only the kernel knows is passed on."""
    reply = channels.run(
        "get_ipython().set_next_input('next')", user_expressions={"a": "6 * 7", "b": "1 / 0"}
    ).reply["content"]
    assert reply["user_expressions"]["a"]["data"] == {"text/plain": "42"}
    assert reply["user_expressions"]["b"]["status"] == "error"
    assert reply["payload"][0]["source"] == "set_next_input"


def test_silent_cells_do_not_count(channels: Channels) -> None:
    """Neither they nor those without history move the number in the brackets."""
    before = channels.run("1").reply["content"]["execution_count"]
    assert channels.run("2 + 2", silent=True).of("execute_result") == []
    assert channels.run("3", store_history=False).status == "ok"
    assert channels.run("4").reply["content"]["execution_count"] == before + 1


def test_cells_wait_for_each_other_and_questions_for_cells(channels: Channels) -> None:
    """All requests of a client are carried out in the order they came."""
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


def test_an_error_aborts_the_cells_that_wait(channels: Channels) -> None:
    """Unless the failing one says otherwise, as `Run All` does not."""
    failing = channels.begin("import time\ntime.sleep(0.5)\n1 / 0")
    waiting = channels.begin("print('ran')")
    assert channels.outcome(failing).status == "error"
    aborted = channels.outcome(waiting)
    assert (aborted.status, aborted.text) == ("aborted", "")
    failing = channels.begin("time.sleep(0.5)\n1 / 0", stop_on_error=False)
    waiting = channels.begin("print('ran')")
    assert channels.outcome(failing).status == "error"
    assert channels.outcome(waiting).text == "ran\n"


def test_cells_of_both_worlds_share_kernel_and_history(
    session: Session, channels: Channels, service: Service
) -> None:
    """What an agent set a notebook reads, and both are in the session's history and notebook."""
    session.run("shared = 40")
    count = channels.run("print('from the notebook')\nshared + 2").reply["content"]["execution_count"]
    assert session.run("shared + 3")["execution_count"] == count + 1
    *_, mine, last = session.cells()
    assert last["code"] == "shared + 3"
    assert mine["code"] == "print('from the notebook')\nshared + 2"
    assert mine["result"]["stdout"] == "from the notebook\n"
    assert mine["result"]["outputs"][0]["data"] == {"text/plain": "42"}
    assert mine["result"]["execution_count"] == count
    exported = session.call("GET", "/notebook").json()
    outputs = exported["cells"][-2]["outputs"]
    assert [output["output_type"] for output in outputs] == ["stream", "execute_result"]


def test_a_notebooks_cell_waits_for_an_agents(session: Session, channels: Channels) -> None:
    """One after the other; meanwhile the kernel is busy for the notebook too."""
    cell = session.detach("import time\ntime.sleep(1)\nagent = 'done'")
    channels.until(lambda message: is_status(message, "busy"))
    assert channels.run("agent").data() == {"text/plain": "'done'"}
    assert session.finished(cell)["state"] == "done"


def test_what_opens_while_code_runs_is_told_so(service: Service, session: Session) -> None:
    """A notebook that is opened then shows a busy kernel."""
    cell = session.detach("import time\ntime.sleep(1)")
    with open_channels(service, session.id) as opened:
        assert is_status(opened.receive(), "busy")
        opened.until(lambda message: is_status(message, "idle"))
    session.finished(cell)


def test_every_client_sees_what_any_of_them_runs(
    service: Service, session: Session, channels: Channels
) -> None:
    """Outputs go to all, with the parent that they have; replies to who asked."""
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


def test_the_order_holds_beside_a_thread_that_publishes(channels: Channels) -> None:
    """What a thread of an earlier cell shows is in nobody's way."""
    channels.run(
        "import threading, time\nrunning = True\n"
        "def show():\n    while running: display({'text/plain': 'thread'}, raw=True); time.sleep(0.01)\n"
        "threading.Thread(target=show).start()"
    )
    began = time.monotonic()
    outcome = channels.run(
        "for i in range(20):\n    print(i)\n    display({'text/plain': str(i)}, raw=True)\n"
        "    time.sleep(0.02)\n"
        "running = False"
    )
    assert time.monotonic() - began < 10
    heard = [
        message["content"].get("text") or f"<{message['content']['data']['text/plain']}>"
        for message in outcome.told
        if message["header"]["msg_type"] in ("stream", "display_data")
    ]
    own = [piece for piece in heard if piece != "<thread>"]
    assert "".join(own) == "".join(f"{i}\n<{i}>" for i in range(20))


def test_a_background_threads_marks_are_in_nobodys_text(session: Session, channels: Channels) -> None:
    """Also not in a shell command's that runs meanwhile."""
    channels.run(
        "import threading, time\n"
        "def show():\n    for i in range(20): display(i); time.sleep(0.05)\n"
        "threading.Thread(target=show).start()"
    )
    assert session.bash("sleep 0.5; echo done")["stdout"] == "done\n"


def test_much_text_comes_whole_and_in_few_messages(channels: Channels) -> None:
    """Lines that are printed one by one are gathered on their way."""
    outcome = channels.run("for i in range(20_000): print(i)")
    assert outcome.text == "".join(f"{i}\n" for i in range(20_000))
    assert len(outcome.of("stream")) < 5000


def test_a_running_cell_shows_what_it_prints_at_once(channels: Channels) -> None:
    """Not only at its end."""
    request = channels.begin("import time\nprint('early')\ntime.sleep(2)")
    began = time.monotonic()
    assert "early" in channels.until_kind("stream")["content"]["text"]
    assert time.monotonic() - began < 1.9
    assert channels.outcome(request).status == "ok"
