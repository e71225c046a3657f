"""Widgets, and the comm messages on which they are based."""

from collections.abc import Iterator

import pytest

from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.process import Service
from tests.support.session import Session

OPEN = """
from comm import create_comm
comm = create_comm(target_name="widget", data={"value": 1}, buffers=[b"\\xff\\x00"])
received = []
def on_message(message):
    received.append((message["content"]["data"], [bytes(b) for b in message["buffers"]]))
    print("received", message["content"]["data"])
    display("displayed")
    print("sent")
    comm.send({"echo": message["content"]["data"]}, buffers=[b"\\xfe"])
comm.on_msg(on_message)
comm.comm_id
"""


@pytest.fixture
def v1(service: Service, session: Session) -> Iterator[Channels]:
    """A WebSocket with frames of the v1 form, which browsers use."""
    with open_channels(service, session.id, v1=True) as opened:
        yield opened


def opened_by(channels: Channels) -> str:
    """Have the kernel open a comm, and return the id of the comm."""
    outcome = channels.run(OPEN)
    comm_id = str(outcome.data()["text/plain"]).strip("'")
    (opening,) = outcome.of("comm_open")
    assert opening["content"]["comm_id"] == comm_id
    assert opening["content"]["data"] == {"value": 1}
    return comm_id


def test_widget_and_kernel_exchange_messages(v1: Channels) -> None:
    """Messages have buffers both ways. The handler's output belongs to the widget's message."""
    comm_id = opened_by(v1)
    request = v1.send("comm_msg", {"comm_id": comm_id, "data": {"value": 2}}, buffers=(b"\xfd", b""))
    outcome = v1.outcome(request, replies=False)
    kinds = [kind for kind in outcome.kinds if kind != "execute_input"]
    assert kinds == ["stream", "display_data", "stream", "comm_msg"]
    assert outcome.text == "received {'value': 2}\nsent\n"
    (answer,) = outcome.of("comm_msg")
    assert answer["content"]["data"] == {"echo": {"value": 2}}
    assert answer["buffers"] == [b"\xfe"]
    assert v1.run("received").data() == {"text/plain": "[({'value': 2}, [b'\\xfd', b''])]"}
    assert comm_id in v1.ask("comm_info")["comms"]
    v1.outcome(v1.send("comm_close", {"comm_id": comm_id, "data": {}}), replies=False)
    assert comm_id not in v1.ask("comm_info")["comms"]


def test_widgets_and_progress_bars_are_widgets(v1: Channels) -> None:
    """A notebook gets the models and one view, which later messages change, and no updates of displays."""
    outcome = v1.run("from ipywidgets import IntSlider\nIntSlider(value=3)")
    view = outcome.data()["application/vnd.jupyter.widget-view+json"]
    models = [message["content"] for message in outcome.of("comm_open")]
    assert view["model_id"] in [model["comm_id"] for model in models]
    outcome = v1.run("from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass")
    (shown,) = outcome.of("display_data")
    assert "application/vnd.jupyter.widget-view+json" in shown["content"]["data"]
    assert outcome.of("comm_msg") and not outcome.of("update_display_data")
    assert outcome.text == ""


def test_client_opens_a_comm(v1: Channels) -> None:
    """The code has registered the target."""
    v1.run(
        "def target(comm, message):\n    comm.send({'hello': message['content']['data']})\n"
        "get_ipython().kernel.comm_manager.register_target('mine', target)"
    )
    request = v1.send("comm_open", {"comm_id": "c1", "target_name": "mine", "data": {"n": 3}})
    (answer,) = v1.outcome(request, replies=False).of("comm_msg")
    assert answer["content"] == {"comm_id": "c1", "data": {"hello": {"n": 3}}}


def test_code_sees_the_message_id_of_the_clients_request(v1: Channels) -> None:
    """An output widget tells the page to capture the messages of this request."""
    request = v1.begin("get_ipython().kernel.get_parent()['header']['msg_id']")
    assert v1.outcome(request).data() == {"text/plain": f"'{request}'"}


def test_threads_send_comm_messages_after_their_cell(v1: Channels) -> None:
    """Messages that the kernel publishes while no cell runs reach the clients."""
    opened_by(v1)
    v1.run("import threading\nthreading.Timer(0.3, lambda: comm.send({'late': True})).start()")
    assert v1.until_kind("comm_msg")["content"]["data"] == {"late": True}


def test_messages_published_between_cells_take_no_memory_of_the_kernel(v1: Channels) -> None:
    """An animation may run for long, and the kernel must not keep the frames that it has sent."""
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


def test_error_in_a_handler_is_published(v1: Channels) -> None:
    """The kernel goes on."""
    comm_id = opened_by(v1)
    v1.run("def fail(message): get_ipython().run_cell('1 / 0')\ncomm.on_msg(fail)")
    outcome = v1.outcome(v1.send("comm_msg", {"comm_id": comm_id, "data": {}}), replies=False)
    assert outcome.of("error")[0]["content"]["ename"] == "ZeroDivisionError"
    assert v1.run("1").status == "ok"


def test_handler_of_a_widget_can_be_interrupted(service: Service, session: Session, v1: Channels) -> None:
    """While the handler runs, the session is busy, as during a cell."""
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


def test_kernel_that_a_handler_ends_is_replaced(service: Service, fresh: Session) -> None:
    """Clients get the status `restarting`."""
    with open_channels(service, fresh.id, v1=True) as v1:
        comm_id = opened_by(v1)
        v1.run("import os\ncomm.on_msg(lambda message: os._exit(1))")
        v1.send("comm_msg", {"comm_id": comm_id, "data": {}})
        v1.until(lambda message: is_status(message, "restarting"))
        assert v1.run("'comm' in globals()").data() == {"text/plain": "False"}


def test_messages_for_unknown_comms_are_ignored(v1: Channels) -> None:
    """A page may have widgets of an earlier kernel."""
    v1.outcome(v1.send("comm_msg", {"comm_id": "gone", "data": {}}), replies=False)
    v1.outcome(v1.send("comm_msg", {}), replies=False)
    assert v1.run("1").status == "ok"


def test_client_of_text_frames_gets_buffers_only_after_it_has_sent_some(channels: Channels) -> None:
    """Jupyter's gateway client reads every frame as text, and would stop at a binary one."""
    comm_id = opened_by(channels)
    assert all(isinstance(frame, str) for frame in channels.frames)
    request = channels.send("comm_msg", {"comm_id": comm_id, "data": {}}, buffers=(b"\xff",))
    (answer,) = channels.outcome(request, replies=False).of("comm_msg")
    assert answer["buffers"] == [b"\xfe"]
