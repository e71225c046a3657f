"""Tests of sessions while a replica is killed, stopped or suspended, or the database is gone."""

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
    """Return a group of two replicas that tests may stop. Each test leaves both running."""
    yield from standing(new_group(REPLICA_LEASE_SEC=LEASE_SEC))


@pytest.fixture
def pair(group: Group) -> tuple[Service, Service]:
    """Return both replicas of the group."""
    return group.members[0], group.members[1]


def printed_soon(session: Session, code: str, seconds: float = TAKEN_SECONDS) -> tuple[str, float]:
    """Run code until a replica has taken the session; return its output and the seconds this took.

    Until then each call must fail with an error that says to retry.
    """
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


def test_another_replica_takes_over_from_a_killed_one(pair: tuple[Service, Service]) -> None:
    """Variables are kept, and the running cell goes on and its result is stored. The replica returns."""
    dying, other = pair
    session = open_session(dying)
    idle = open_session(dying)
    idle.run("kept = 'idle'")
    session.run("x = 41")
    cell_id = session.detach(
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
            """Read what was sent before the close."""
        assert channels.socket.close_code == 1001
    taken_over = Session(other, session.created)
    stdout, _ = printed_soon(taken_over, "print(x)", 60)
    assert stdout == "42"
    cell = taken_over.finished(cell_id)
    assert cell["state"] == "done" and cell["result"]["stdout"].split() == [
        str(i) for i in range(2 * LEASE_SEC)
    ]
    # No call has used this session; the replica takes it all the same.
    assert f"session {idle.id} goes on" in other.log_path.read_text()
    dying.restart()
    assert printed_soon(Session(dying, idle.created), "print(kept)")[0] == "idle"
    for each in (session, idle, watched):
        assert Session(dying, each.created).delete().status_code == 204


def test_a_rolling_restart_loses_no_session(pair: tuple[Service, Service]) -> None:
    """Each replica in turn is stopped and started. Calls by the running replica work at once."""
    first, second = pair
    with new_session(first) as session:
        session.run("n = 0")
        for stopping, staying in ((first, second), (second, first)):
            stopping.stop()
            stdout, seconds = printed_soon(Session(staying, session.created), "n += 1; print(n)")
            assert seconds < LEASE_SEC, "the other replica waited for the lease"
            assert int(stdout) >= 1
            stopping.restart()
        assert printed_soon(session, "print(n)")[0] == "2"


def test_a_suspended_replica_gives_up_its_sessions(pair: tuple[Service, Service]) -> None:
    """A replica that lost its lease while suspended forwards calls for its former sessions."""
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
def test_sessions_survive_an_outage_of_the_database(
    pair: tuple[Service, Service], postgres: Postgres, seconds: float
) -> None:
    """Calls are 503 during the outage, even beyond a lease. Afterwards each replica has its sessions."""
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
    # The result of this cell could not be stored when it ended.
    assert sessions[0].finished(cell_id)["result"]["stdout"] == "unseen\n"
    # Nor could the end of this expired session; later sessions still expire.
    next_session = open_session(pair[0])
    next_session.extend(1)
    deadline = time.monotonic() + 20
    while not {brief.id, next_session.id}.isdisjoint(live_sessions(pair[0].api)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert brief.ended()["reason"] == next_session.ended()["reason"] == "expired"
    for session in sessions:
        assert session.delete().status_code == 204
    for service in pair:
        assert service.api.run("print(1)")["stdout"] == "1\n"
