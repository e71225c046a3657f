"""Comm messages, which widgets are made of. The image has no ipywidgets; `comm` comes with ipykernel."""

from collections.abc import Iterator

import pytest

from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.process import Service
from tests.support.session import Session

OPEN = """
from comm import create_comm
comm = create_comm(target_name="widget", data={"value": 1}, buffers=[b"\\xff\\x00"])
heard = []
def on_message(message):
    heard.append((message["content"]["data"], [bytes(b) for b in message["buffers"]]))
    print("heard", message["content"]["data"])
    display("shown")
    print("sent")
    comm.send({"echo": message["content"]["data"]}, buffers=[b"\\xfe"])
comm.on_msg(on_message)
comm.comm_id
"""


@pytest.fixture
def v1(service: Service, session: Session) -> Iterator[Channels]:
    """A socket in the protocol that browsers speak."""
    with open_channels(service, session.id, v1=True) as opened:
        yield opened


def opened_by(channels: Channels) -> str:
    """The id of a comm that the kernel opens."""
    outcome = channels.run(OPEN)
    comm_id = str(outcome.data()["text/plain"]).strip("'")
    (told,) = outcome.of("comm_open")
    assert told["content"]["comm_id"] == comm_id
    assert told["content"]["data"] == {"value": 1}
    return comm_id


def test_a_widget_speaks_with_the_kernel(v1: Channels) -> None:
    """Both ways, with buffers; what its handler prints and shows belongs to the message, in order."""
    comm_id = opened_by(v1)
    request = v1.send("comm_msg", {"comm_id": comm_id, "data": {"value": 2}}, buffers=(b"\xfd", b""))
    outcome = v1.outcome(request, replies=False)
    kinds = [kind for kind in outcome.kinds if kind != "execute_input"]
    assert kinds == ["stream", "display_data", "stream", "comm_msg"]
    assert outcome.text == "heard {'value': 2}\nsent\n"
    (answer,) = outcome.of("comm_msg")
    assert answer["content"]["data"] == {"echo": {"value": 2}}
    assert answer["buffers"] == [b"\xfe"]
    assert v1.run("heard").data() == {"text/plain": "[({'value': 2}, [b'\\xfd', b''])]"}
    assert comm_id in v1.ask("comm_info")["comms"]
    v1.outcome(v1.send("comm_close", {"comm_id": comm_id, "data": {}}), replies=False)
    assert comm_id not in v1.ask("comm_info")["comms"]


def test_a_client_opens_a_comm(v1: Channels) -> None:
    """With a target that the code has registered."""
    v1.run(
        "def target(comm, message):\n    comm.send({'hello': message['content']['data']})\n"
        "get_ipython().kernel.comm_manager.register_target('mine', target)"
    )
    request = v1.send("comm_open", {"comm_id": "c1", "target_name": "mine", "data": {"n": 3}})
    (answer,) = v1.outcome(request, replies=False).of("comm_msg")
    assert answer["content"] == {"comm_id": "c1", "data": {"hello": {"n": 3}}}


def test_the_id_that_an_output_widget_catches_is_the_clients(v1: Channels) -> None:
    """`with output:` tells the page to catch what belongs to the request that the kernel works on."""
    request = v1.begin("get_ipython().kernel.get_parent()['header']['msg_id']")
    assert v1.outcome(request).data() == {"text/plain": f"'{request}'"}


def test_threads_reach_their_widgets_after_the_cell(v1: Channels) -> None:
    """What is published when nothing runs is told as well."""
    opened_by(v1)
    v1.run("import threading\nthreading.Timer(0.3, lambda: comm.send({'late': True})).start()")
    assert v1.until_kind("comm_msg")["content"]["data"] == {"late": True}


def test_what_is_published_between_cells_does_not_pile_up(v1: Channels) -> None:
    """An animation may go on for long: what it has sent is in nobody's memory."""
    opened_by(v1)
    held = "int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20"
    before = int(v1.run(held).data()["text/plain"])
    v1.run(
        "import threading, time\n"
        "def animate():\n    for i in range(100): comm.send({'frame': 'x' * 1_000_000}); time.sleep(0.01)\n"
        "    comm.send({'end': True})\n"
        "threading.Thread(target=animate).start()"
    )
    v1.until(lambda message: message["content"].get("data") == {"end": True})
    assert int(v1.run(held).data()["text/plain"]) < before + 60


def test_a_handlers_error_is_told(v1: Channels) -> None:
    """And the kernel goes on."""
    comm_id = opened_by(v1)
    v1.run("def fail(message): get_ipython().run_cell('1 / 0')\ncomm.on_msg(fail)")
    outcome = v1.outcome(v1.send("comm_msg", {"comm_id": comm_id, "data": {}}), replies=False)
    assert outcome.of("error")[0]["content"]["ename"] == "ZeroDivisionError"
    assert v1.run("1").status == "ok"


def test_a_handler_can_be_interrupted(service: Service, session: Session, v1: Channels) -> None:
    """As a cell can; it is busy, and other calls wait for it."""
    comm_id = opened_by(v1)
    v1.run(
        "import time\ndef loop(message):\n    print('in')\n    while True: time.sleep(0.1)\ncomm.on_msg(loop)"
    )
    request = v1.send("comm_msg", {"comm_id": comm_id, "data": {}})
    v1.until_kind("stream")
    assert session.describe()["state"] == "busy"
    assert service.api.http.post(f"/api/kernels/{session.id}/interrupt").status_code == 204
    v1.until(lambda m: is_status(m, "idle") and m["parent_header"].get("msg_id") == request)
    assert v1.run("'kept'").status == "ok"


def test_a_handler_that_ends_the_kernel_is_survived(service: Service, fresh: Session) -> None:
    """Clients are told of the new one."""
    with open_channels(service, fresh.id, v1=True) as v1:
        comm_id = opened_by(v1)
        v1.run("import os\ncomm.on_msg(lambda message: os._exit(1))")
        v1.send("comm_msg", {"comm_id": comm_id, "data": {}})
        v1.until(lambda message: is_status(message, "restarting"))
        assert v1.run("'comm' in globals()").data() == {"text/plain": "False"}


def test_messages_for_comms_that_are_gone_do_no_harm(v1: Channels) -> None:
    """A page may be older than the kernel."""
    v1.outcome(v1.send("comm_msg", {"comm_id": "gone", "data": {}}), replies=False)
    v1.outcome(v1.send("comm_msg", {}), replies=False)
    assert v1.run("1").status == "ok"


def test_a_text_client_gets_buffers_only_if_it_sends_some(channels: Channels) -> None:
    """Jupyter's gateway client takes every frame for text, and would stop at a binary one."""
    comm_id = opened_by(channels)
    assert all(isinstance(frame, str) for frame in channels.frames)
    request = channels.send("comm_msg", {"comm_id": comm_id, "data": {}}, buffers=(b"\xff",))
    (answer,) = channels.outcome(request, replies=False).of("comm_msg")
    assert answer["buffers"] == [b"\xfe"]
