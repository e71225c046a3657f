"""A WebSocket that breaks: messages are kept and delivered to the next one with the same session id."""

import socket

from tests.conftest import StartService
from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.process import Service
from tests.support.session import WAIT_FOR_FILE, Session, new_session
from tests.support.waiting import soon


def drop(service: Service, session: Session, channels: Channels) -> None:
    """Break a connection without a close frame, and wait until the service has noticed."""
    path = f"/api/kernels/{session.id}"
    before = service.api.http.get(path).json()["connections"]
    channels.socket.socket.shutdown(socket.SHUT_RDWR)
    assert soon(lambda: service.api.http.get(path).json()["connections"] < before)


def test_client_that_reconnects_receives_the_rest_of_its_cell(service: Service, session: Session) -> None:
    """Text, value, reply and idle status of a cell that ended meanwhile are delivered."""
    with open_channels(service, session.id, session_id="mine") as channels:
        request = channels.begin(f"print('first')\n{WAIT_FOR_FILE}\nprint('second')\n'end'")
        assert "first" in channels.until_kind("stream")["content"]["text"]
        drop(service, session, channels)
    session.put("go", b"")
    assert soon(lambda: session.describe()["state"] == "ready")
    with open_channels(service, session.id, session_id="mine") as channels:
        outcome = channels.outcome(request)
        assert (outcome.status, outcome.text.strip()) == ("ok", "second")
        assert outcome.data() == {"text/plain": "'end'"}
        assert channels.run("1").status == "ok"


def test_waiting_cells_run_while_their_client_is_disconnected(service: Service, session: Session) -> None:
    """Requests that the service has accepted are carried out."""
    with open_channels(service, session.id, session_id="away") as channels:
        channels.begin(WAIT_FOR_FILE)
        waiting = channels.begin("print('waited')")
        channels.sync()
        drop(service, session, channels)
    session.put("go", b"")
    with open_channels(service, session.id, session_id="away") as channels:
        assert channels.outcome(waiting).text == "waited\n"


def test_cell_and_session_survive_a_crash_of_the_service(start_service: StartService) -> None:
    """The kernel keeps its variables, and the history has the cell's whole text."""
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


def test_client_that_reconnects_receives_the_request_for_input(service: Service, session: Session) -> None:
    """The client can answer it."""
    with open_channels(service, session.id, session_id="asked") as channels:
        request = channels.begin(f"{WAIT_FOR_FILE}\ninput('Who? ')")
        channels.until_kind("status")
        drop(service, session, channels)
    session.put("go", b"")
    with open_channels(service, session.id, session_id="asked") as channels:
        assert channels.outcome(request, answer="Ada").data() == {"text/plain": "'Ada'"}


def test_client_with_another_session_id_receives_no_earlier_messages(
    service: Service, session: Session
) -> None:
    """A page that is loaded again has no use for the outputs of the old page."""
    with open_channels(service, session.id, session_id="old") as channels:
        request = channels.begin("'of the old page'")
        drop(service, session, channels)
    session.run("'the cell of the old page has ended'")
    with open_channels(service, session.id, session_id="new") as channels:
        channels.run("1")
        channels.send("kernel_info_request", {})
        while not is_status(message := channels.receive(), "idle"):
            assert message["parent_header"].get("msg_id") != request


def test_second_websocket_of_a_client_replaces_the_first(service: Service, session: Session) -> None:
    """The first is closed, as it may be broken without the service having noticed."""
    with open_channels(service, session.id, session_id="twice") as first:
        first.run("1")
        with open_channels(service, session.id, session_id="twice") as second:
            for _ in first.socket:
                pass
            assert first.socket.close_code == 1001
            assert second.run("2").data() == {"text/plain": "2"}
        connections = service.api.http.get(f"/api/kernels/{session.id}").json()["connections"]
        assert connections <= 1


def test_messages_for_a_disconnected_client_are_limited(service: Service, session: Session) -> None:
    """Displays over the limit are dropped with a note. The reply and the idle status are kept."""
    with open_channels(service, session.id, session_id="full") as channels:
        request = channels.begin(
            f"{WAIT_FOR_FILE}\nfor i in range(14): display({{'text/plain': 'x' * 1_000_000}}, raw=True)"
        )
        channels.until_kind("status")
        drop(service, session, channels)
    with open_channels(service, session.id, session_id="watching") as watching:
        session.put("go", b"")
        watching.outcome(request, replies=False)
    with open_channels(service, session.id, session_id="full") as channels:
        outcome = channels.outcome(request)
    assert outcome.status == "ok"
    assert 2 <= len(outcome.of("display_data")) <= 10
    assert "left out" in outcome.text
