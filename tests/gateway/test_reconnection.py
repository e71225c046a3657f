"""A socket that drops: what belongs to it is kept, and delivered to the next of the same session id."""

import socket
import time

from tests.conftest import StartService
from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.process import Service
from tests.support.session import Session, new_session

SLOW = "import time\nprint('first')\ntime.sleep(1)\nprint('second')\n'end'"


def drop(channels: Channels) -> None:
    """End a socket as a broken network does: without a word."""
    channels.socket.socket.shutdown(socket.SHUT_RDWR)


def test_a_cell_goes_on_and_its_end_is_delivered(service: Service, session: Session) -> None:
    """Text, value, reply and idle of a cell that ran meanwhile come after the client is back."""
    with open_channels(service, session.id, session_id="mine") as channels:
        request = channels.begin(SLOW)
        assert "first" in channels.until_kind("stream")["content"]["text"]
        drop(channels)
    time.sleep(1.5)
    with open_channels(service, session.id, session_id="mine") as channels:
        outcome = channels.outcome(request)
        assert (outcome.status, outcome.text.strip()) == ("ok", "second")
        assert outcome.data() == {"text/plain": "'end'"}
        assert channels.run("1").status == "ok"


def test_cells_that_wait_are_run_while_the_client_is_away(service: Service, session: Session) -> None:
    """They were asked for."""
    with open_channels(service, session.id, session_id="away") as channels:
        channels.begin("import time\ntime.sleep(0.5)")
        waiting = channels.begin("print('waited')")
        channels.until_kind("status")
        drop(channels)
    with open_channels(service, session.id, session_id="away") as channels:
        assert channels.outcome(waiting).text == "waited\n"


def test_a_cell_and_its_session_outlive_the_service(start_service: StartService) -> None:
    """After a crash the kernel with its variables is there, and the cell's whole text in the history."""
    service = start_service(POOL_SIZE=1)
    with new_session(service) as session:
        with open_channels(service, session.id, session_id="mine") as channels:
            channels.begin("import time\nkept = 5\nfor i in range(20): print(i); display(i); time.sleep(0.1)")
            channels.until_kind("stream")
            service.crash()
        service.restart()
        cell = session.finished(session.cells()[-1]["cell_id"])
        assert cell["result"]["stdout"] == "".join(f"{i}\n" for i in range(20))
        with open_channels(service, session.id, session_id="mine") as channels:
            assert channels.run("kept").data() == {"text/plain": "5"}


def test_a_prompt_is_delivered_to_who_comes_back(service: Service, session: Session) -> None:
    """And can be answered."""
    with open_channels(service, session.id, session_id="asked") as channels:
        request = channels.begin("import time\ntime.sleep(0.5)\ninput('Who? ')")
        channels.until_kind("status")
        drop(channels)
    time.sleep(1)
    with open_channels(service, session.id, session_id="asked") as channels:
        assert channels.outcome(request, answer="Ada").data() == {"text/plain": "'Ada'"}


def test_another_session_id_gets_nothing_of_it(service: Service, session: Session) -> None:
    """A page that is loaded anew has no use for the outputs of the old one."""
    with open_channels(service, session.id, session_id="old") as channels:
        request = channels.begin("'of the old page'")
        drop(channels)
    with open_channels(service, session.id, session_id="new") as channels:
        channels.run("1")
        channels.send("kernel_info_request", {})
        while not is_status(message := channels.receive(), "idle"):
            assert message["parent_header"].get("msg_id") != request


def test_a_second_socket_takes_the_place_of_the_first(service: Service, session: Session) -> None:
    """The first may be dead without our knowledge; it is closed."""
    with open_channels(service, session.id, session_id="twice") as first:
        first.run("1")
        with open_channels(service, session.id, session_id="twice") as second:
            for _ in first.socket:
                pass
            assert first.socket.close_code == 1001
            assert second.run("2").data() == {"text/plain": "2"}
        connections = service.api.http.get(f"/api/kernels/{session.id}").json()["connections"]
        assert connections <= 1


def test_what_is_kept_is_bounded_and_the_end_is_among_it(service: Service, session: Session) -> None:
    """Outputs beyond it are left out, and said to be; the reply and the kernel's idle are not."""
    with open_channels(service, session.id, session_id="full") as channels:
        request = channels.begin(
            "import time\ntime.sleep(0.5)\n"
            "for i in range(14): display({'text/plain': 'x' * 1_000_000}, raw=True)"
        )
        channels.until_kind("status")
        drop(channels)
    deadline = time.monotonic() + 20
    while not any("range(14)" in cell["code"] and cell["state"] == "done" for cell in session.cells()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    with open_channels(service, session.id, session_id="full") as channels:
        outcome = channels.outcome(request)
    assert outcome.status == "ok"
    assert 2 <= len(outcome.of("display_data")) <= 10
    assert "left out" in outcome.text
