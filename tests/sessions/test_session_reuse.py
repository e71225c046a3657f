"""Tests of containers whose session has ended: they serve their key again, as new, or are destroyed."""

import threading
from collections.abc import Iterator

import pytest

from tests.conftest import StartService
from tests.support.process import Service
from tests.support.session import open_session
from tests.support.waiting import soon

LEAVE = """
import os, threading, time
kept = 'variable'
open('left.txt', 'w').write('file')
os.makedirs(os.path.expanduser('~/.config/left'))
os.environ['LEFT'] = 'environment'
os.chdir('/tmp')
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '600')
"""
LOOK = """
import glob, os, threading
sleeping = [name for name in glob.glob('/proc/[0-9]*/comm') if open(name).read() == 'sleep\\n']
print('kept' in globals(), os.listdir(), os.path.exists(os.path.expanduser('~/.config/left')))
print('LEFT' in os.environ, os.getcwd(), sleeping)
"""
NOTHING = "False [] False\nFalse /workspace []"


@pytest.fixture
def reusing(start_service: StartService) -> Service:
    """Start a service that has one container and uses it again."""
    return start_service(CONTAINER_REUSE="tenant", POOL_SIZE=1, MAX_CONTAINERS=1, MAX_EXEC_TIMEOUT_MS=60_000)


def test_container_of_a_deleted_session_serves_again_as_new(reusing: Service) -> None:
    """The next session and the next call get the same container, and find nothing of the session."""
    container = reusing.settle()
    for _ in range(3):
        session = open_session(reusing)
        session.run(LEAVE)
        assert session.delete().status_code == 204
        following = open_session(reusing)
        assert following.printed(LOOK) == NOTHING
        following.delete()
        assert reusing.api.run(LOOK)["stdout"].strip() == NOTHING
    assert reusing.settle() == container, reusing.log_tail()


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "while True: pass"], ids=["exit", "timeout"])
def test_container_of_a_session_whose_kernel_was_replaced_serves_again(reusing: Service, code: str) -> None:
    """A session gets a new kernel when its own has ended; its container is compared at the end."""
    container = reusing.settle()
    session = open_session(reusing)
    session.execute(code, timeout_ms=1000)
    session.delete()
    assert reusing.api.run(LOOK)["stdout"].strip() == NOTHING
    assert reusing.settle() == container, reusing.log_tail()


def test_container_of_an_expired_session_serves_again(reusing: Service) -> None:
    """A session that expires while nothing runs leaves its container to the pool."""
    container = reusing.settle()
    session = open_session(reusing, ttl_seconds=1)
    assert session.wait_until_ended()["reason"] == "expired"
    assert reusing.settle() == container, reusing.log_tail()


def test_container_of_a_session_that_ends_while_code_runs_is_destroyed(reusing: Service) -> None:
    """Code that still runs when its session is deleted costs the container."""
    container = reusing.settle()
    session = open_session(reusing)
    session.detach("import time\nwhile True: time.sleep(1)")
    session.delete()
    assert reusing.api.run(LOOK)["stdout"].strip() == NOTHING
    assert not container & reusing.settle()


def test_upload_that_outlives_its_session_does_not_reach_the_next_one(reusing: Service) -> None:
    """A container is destroyed if a file is on its way into it when its session ends."""
    container = reusing.settle()
    session = open_session(reusing)
    deleted = threading.Event()

    def content() -> Iterator[bytes]:
        yield bytes(1 << 20)
        deleted.wait(60)
        yield b"last"

    upload = threading.Thread(target=session.file, args=("PUT", "late.txt"), kwargs={"content": content()})
    upload.start()
    used = "import os; disk = os.statvfs('.'); print((disk.f_blocks - disk.f_bfree) * disk.f_bsize)"
    soon(lambda: int(session.printed(used)) >= 1 << 19)
    session.delete()
    deleted.set()
    upload.join()
    following = open_session(reusing)
    assert following.files() == {}
    following.delete()
    assert not container & reusing.settle()


def test_refused_session_does_not_cost_a_container(reusing: Service) -> None:
    """Inputs that do not fit the workspace's rules end the creation, and the container is as new again."""
    container = reusing.settle()
    file_id = reusing.api.upload(b"1")
    files = [{"path": "a", "file_id": file_id}, {"path": "a/b", "file_id": file_id}]
    for path in ("/v1/sessions", "/v1/execute"):
        response = reusing.api.http.post(path, json={"code": "1", "files": files})
        assert response.status_code == 422, response.text
    assert reusing.api.run(LOOK)["stdout"].strip() == NOTHING
    assert reusing.settle() == container, reusing.log_tail()


def test_container_of_a_session_never_serves_another_key(start_service: StartService) -> None:
    """The container of one key's session is destroyed to make room for another key."""
    service = start_service(
        CONTAINER_REUSE="tenant", POOL_SIZE=1, MAX_CONTAINERS=1, API_KEYS="a:one,b:two", QUEUE_TIMEOUT_SEC=60
    )
    used: dict[str, set[str]] = {"one": set(), "two": set()}
    for _ in range(2):
        for key in used:
            headers = {"X-API-Key": key}
            created = service.api.http.post("/v1/sessions", json={}, headers=headers, timeout=90)
            assert created.status_code == 201, created.text
            used[key] |= service.engine.kernels(service.instance_id)
            path = f"/v1/sessions/{created.json()['session_id']}"
            assert service.api.http.delete(path, headers=headers).status_code == 204
    assert not used["one"] & used["two"]
