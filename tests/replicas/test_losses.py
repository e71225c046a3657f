"""Replicas that are killed, stopped or stand still, and a database that is gone: sessions go on."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.gateway.channels import open_channels
from tests.replicas.conftest import LEASE_SEC, Group, standing
from tests.support.api import problem
from tests.support.postgres import Postgres
from tests.support.process import Service
from tests.support.session import Session, live_sessions, new_session, open_session
from tests.support.sse import wait_for_print

pytestmark = pytest.mark.timeout(240)

RETRYABLE = ("session_moving", "replica_lost", "registry_unavailable")
TAKEN_SECONDS = 4 * LEASE_SEC + 20


@pytest.fixture(scope="module")
def group(new_group: Callable[..., Group]) -> Iterator[Group]:
    """Two, to which much happens; each test leaves both up."""
    yield from standing(new_group(REPLICA_LEASE_SEC=LEASE_SEC))


@pytest.fixture
def pair(group: Group) -> tuple[Service, Service]:
    """Both of them."""
    return group.members[0], group.members[1]


def printed_soon(session: Session, code: str, seconds: float = TAKEN_SECONDS) -> tuple[str, float]:
    """What code prints once the session is taken, and after how long; until then 503 says to come back."""
    began = time.monotonic()
    while True:
        try:
            response = session.execute(code)
        except httpx.TransportError:
            response = None
        if response is not None and response.status_code == 200:
            return response.json()["stdout"].strip(), time.monotonic() - began
        if response is not None:
            assert problem(response)["code"] in ("session_moving", "replica_lost", "registry_unavailable"), (
                response.text
            )
            assert response.headers.get("Retry-After") or response.json()["code"] != "session_moving"
        assert time.monotonic() - began < seconds, session.service.log_tail()
        time.sleep(0.2)


def test_another_takes_over_from_one_that_is_killed(pair: tuple[Service, Service]) -> None:
    """Variables are there, the cell that ran goes on and its result is kept; the killed one comes back."""
    dying, other = pair
    mine = open_session(dying)
    idle = open_session(dying)
    idle.run("kept = 'idle'")
    mine.run("x = 41")
    cell_id = mine.detach(
        f"import time\nfor i in range({2 * LEASE_SEC}): print(i, flush=True); time.sleep(1)\nx += 1"
    )
    watched = Session(other, open_session(dying).created)
    with (
        watched.open_stream("print(1, flush=True)\nimport time; time.sleep(30)") as events,
        open_channels(other, idle.id) as channels,
    ):
        wait_for_print(events, "1\n")
        time.sleep(1)
        dying.crash()
        assert [event.type for event in events if event.type not in (":", "output")] == ["error"]
        for _ in channels.socket:
            """What came before."""
        assert channels.socket.close_code == 1001
    there = Session(other, mine.created)
    stdout, _ = printed_soon(there, "print(x)", 60)
    assert stdout == "42"
    cell = there.finished(cell_id)
    assert cell["state"] == "done" and cell["result"]["stdout"].split() == [
        str(i) for i in range(2 * LEASE_SEC)
    ]
    # Nobody has asked for this one: it is taken all the same.
    assert f"session {idle.id} goes on" in other.log_path.read_text()
    dying.restart()
    assert printed_soon(Session(dying, idle.created), "print(kept)")[0] == "idle"
    for session in (mine, idle, watched):
        assert Session(dying, session.created).delete().status_code == 204


def test_a_rolling_restart_loses_nothing(pair: tuple[Service, Service]) -> None:
    """Each in turn is stopped and started; the session is asked through whichever is up, at once."""
    first, second = pair
    with new_session(first) as session:
        session.run("n = 0")
        for stopping, staying in ((first, second), (second, first)):
            stopping.stop()
            stdout, seconds = printed_soon(Session(staying, session.created), "n += 1; print(n)")
            assert seconds < LEASE_SEC, "it was given away, so nobody waits for a lease"
            assert int(stdout) >= 1
            stopping.restart()
        assert printed_soon(session, "print(n)")[0] == "2"


def test_one_that_stood_still_lets_go(pair: tuple[Service, Service]) -> None:
    """Taken for dead and back again, it knows that its sessions are another's, and passes calls on."""
    still, other = pair
    with new_session(still) as session:
        session.run("x = 1")
        os.kill(still.process.pid, signal.SIGSTOP)
        try:
            assert printed_soon(Session(other, session.created), "x += 1; print(x)")[0] == "2"
        finally:
            os.kill(still.process.pid, signal.SIGCONT)
        assert printed_soon(session, "x += 1; print(x)")[0] == "3"
        assert printed_soon(Session(other, session.created), "print(x)")[0] == "3"


@pytest.mark.parametrize("seconds", [2.0, 2.0 * LEASE_SEC], ids=["short", "long"])
def test_sessions_outlive_a_database_that_is_gone(
    pair: tuple[Service, Service], postgres: Postgres, seconds: float
) -> None:
    """For longer than a lease, too: calls are 503 meanwhile, and then each replica has what it had."""
    sessions = [open_session(service) for service in pair]
    for session in sessions:
        session.run("x = 42")
    cell_id = sessions[0].detach("import time; time.sleep(0.5); print('unseen')")
    brief = open_session(pair[0])
    brief.extend(1)
    with postgres.gone():
        time.sleep(seconds)
        for service in pair:
            response = service.api.http.get("/v1/files")
            assert (response.status_code, problem(response)["code"]) == (503, "registry_unavailable")
    for session in sessions:
        for service in pair:
            assert printed_soon(Session(service, session.created), "print(x)")[0] == "42"
    # Nobody could write down what came of this one when it ended.
    assert sessions[0].finished(cell_id)["result"]["stdout"] == "unseen\n"
    # Nor that this one's time was over; and later ones still end by their time.
    later = open_session(pair[0])
    later.extend(1)
    deadline = time.monotonic() + 20
    while not {brief.id, later.id}.isdisjoint(live_sessions(pair[0].api)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert brief.ended()["reason"] == later.ended()["reason"] == "expired"
    for session in sessions:
        assert session.delete().status_code == 204
    for service in pair:
        assert service.api.run("print(1)")["stdout"] == "1\n"
