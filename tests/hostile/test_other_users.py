"""Another user of the machine tries to read what the service stores, and to use its containers."""

import hashlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_image import contract
from tests.conftest import LIGHT
from tests.faults.conftest import refused
from tests.support.databases import execute
from tests.support.engine import Engine
from tests.support.process import Service
from tests.support.session import Session, open_session
from tests.support.waiting import soon

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="this user may not become another user"),
]

SOMEBODY = 54_321
"""The id of a user and of a group without a name."""


def used_by_somebody(folder: Path, paths: list[Path]) -> list[str]:
    """Return the paths, given or below a folder, that another user can list, read, write or remove."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
            found = [str(path) for path in (*_below(folder), *paths) if _can_use(path)]
            os.write(writing, "\n".join(found).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        lines = answer.read().splitlines()
    os.waitpid(child, 0)
    return lines


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files))


def _can_use(path: Path) -> bool:
    uses: tuple[Callable[[Path], object], ...] = (
        os.listdir,
        Path.read_bytes,
        lambda path: os.close(os.open(path, os.O_WRONLY)),
        os.unlink,
        lambda path: path.rename(path.with_name("x")),
    )
    for use in uses:
        try:
            use(path)
        except (PermissionError, NotADirectoryError, IsADirectoryError):
            continue
        return True
    return False


@pytest.fixture
def careless(shared: Path, open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service whose umask hides nothing, on a folder that everybody may use."""
    storage = shared / "storage"
    for folder in (storage, storage / "files", storage / "incoming"):
        folder.mkdir()
        folder.chmod(0o777)
    old = storage / "files" / "left by an earlier version"
    old.touch()
    old.chmod(0o666)
    before = os.umask(0)
    try:
        service = open_service(
            **LIGHT,
            POOL_SIZE=1,
            FILE_STORAGE_DIR=storage,
            REGISTRY_KEY_FILE=shared / "key" / "registry.key",
        )
    finally:
        os.umask(before)
    yield service
    service.finish()


def token_of(engine: Engine, service: Service, texts: set[str]) -> list[str]:
    """Return those of the texts that are the token of a container of the service."""
    digests = set()
    for container in engine.inspected(service.instance_id):
        for variable in container["Config"]["Env"]:
            name, _, value = variable.partition("=")
            if name == contract.TOKEN_DIGEST_VARIABLE:
                digests.add(value)
    assert digests
    return [text for text in texts if hashlib.sha256(text.encode()).hexdigest() in digests]


def test_another_user_reads_nothing_and_finds_no_token(
    careless: Service, shared: Path, engine: Engine
) -> None:
    """Files, registry and write-ahead log are refused, and the registry has no token that works."""
    file_id = careless.api.upload(b"secret of the caller")
    session = open_session(careless)
    session.run("marker = 1")
    storage = shared / "storage"
    paths = [
        *(storage / name for name in ("registry.sqlite3", "registry.sqlite3-wal", "registry.sqlite3-shm")),
        *(storage / "files" / file_id, storage / "lock", storage / "incoming" / "x"),
        shared / "key" / "registry.key",
    ]
    assert used_by_somebody(shared, paths) == []
    for path in shared.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    content = b"".join(path.read_bytes() for path in storage.glob("registry.sqlite3*"))
    assert session.id.encode() in content
    texts = {found.decode() for found in re.findall(rb"(?=([0-9a-f]{64}))", content)}
    assert token_of(engine, careless, texts) == []
    assert careless.api.download(file_id) == b"secret of the caller"
    session.delete()


@pytest.mark.parametrize(
    "loosen",
    [
        "theirs",
        "theirs with mode 0777",
        "below a folder that all can write",
        "registry",
        "write-ahead log",
        "subfolder",
        "registry elsewhere",
        "key",
    ],
)
def test_service_refuses_what_others_can_use_in_one_sentence(loosen: str, shared: Path) -> None:
    """The service exits before it stores anything. The sentence names the path and the command that helps."""
    storage = shared / "above" / "storage"
    storage.mkdir(parents=True, mode=0o700)
    settings: dict[str, Any] = {}
    match loosen:
        case "theirs" | "theirs with mode 0777":
            storage.chmod(0o700 if loosen == "theirs" else 0o777)
            named = storage
        case "below a folder that all can write":
            named = storage.parent
            named.chmod(0o777)
        case "registry elsewhere":
            named = shared / "database"
            named.mkdir()
            named.chmod(0o1777)
            settings = {"DATABASE_URL": f"sqlite:///{named / 'registry'}"}
        case "key":
            named = shared / "registry.key"
            settings = {"REGISTRY_KEY": "", "REGISTRY_KEY_FILE": str(named)}
        case _:
            names = {"registry": "registry.sqlite3", "write-ahead log": "registry.sqlite3-wal"}
            named = storage / names.get(loosen, "files")
    if loosen == "subfolder":
        named.mkdir()
    elif not named.exists():
        named.write_text("k" * 40)
    if "all can write" not in loosen and loosen != "registry elsewhere":
        os.chown(named, SOMEBODY, SOMEBODY)
    before = sorted(path.name for path in shared.rglob("*"))
    said = refused(storage, **settings)
    assert f"Cannot use {named}: " in said and ("chown 0 " in said or "chmod go-w " in said)
    assert len(said.splitlines()) <= 3
    if loosen not in ("registry", "write-ahead log", "registry elsewhere", "key"):
        assert sorted(path.name for path in shared.rglob("*")) == before


@pytest.fixture
def victim(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service whose registry the tests change."""
    service = open_service(**LIGHT, POOL_SIZE=0)
    yield service
    service.finish()


def is_lost(session: Session) -> bool:
    """Return whether the session has ended as lost. Any other answer than 200 and 410 fails."""
    answer = session.service.api.http.get(f"/v1/sessions/{session.id}")
    assert answer.status_code in (200, 410), answer.text
    return answer.status_code == 410 and answer.json()["reason"] == "lost"


def url_of(service: Service) -> str:
    """Return the URL of the service's registry."""
    return f"sqlite:///{service.storage / 'registry.sqlite3'}"


def test_key_survives_a_crash_and_a_lost_key_loses_sessions_only(victim: Service, engine: Engine) -> None:
    """After SIGKILL the session goes on. Without the key it ends as lost; files and new calls work."""
    key = victim.log_path.with_name("registry.key")
    file_id = victim.api.upload(b"kept")
    session = open_session(victim)
    session.run("marker = 7")
    victim.crash()
    victim.restart()
    assert session.printed("marker") == "7"
    left = engine.kernels(victim.instance_id)
    assert len(left) == 1
    victim.stop()
    key.unlink()
    victim.mark_log()
    victim.restart()
    assert is_lost(session)
    log = victim.log_tail(since_mark=True)
    assert log.count("were encrypted with another key") == 1 and "Traceback" not in log
    assert victim.api.http.post(f"/v1/sessions/{session.id}/execute", json={"code": "1"}).status_code == 410
    assert victim.api.download(file_id) == b"kept"
    assert victim.api.run("print(6 * 7)")["stdout"] == "42\n"
    again = open_session(victim)
    again.run("marker = 8")
    victim.stop()
    victim.mark_log()
    victim.restart(REGISTRY_KEY="a key that is not the one of before")
    assert is_lost(again)
    assert victim.log_tail(since_mark=True).count("were encrypted with another key") == 1
    soon(lambda: not left & engine.kernels(victim.instance_id), 60)
    assert not left & engine.kernels(victim.instance_id)


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_swapped_and_changed_rows_lose_their_sessions_alone(
    with_signal: signal.Signals, victim: Service
) -> None:
    """Two containers' tokens are swapped, a third one's address is changed. A fourth session goes on."""
    sessions = [open_session(victim) for _ in range(4)]
    for number, session in enumerate(sessions):
        session.run(f"marker = {number}")
    containers = [
        execute(url_of(victim), "SELECT container_id FROM sessions WHERE session_id = :id", id=session.id)[0][
            0
        ]
        for session in sessions
    ]
    if with_signal is signal.SIGKILL:
        victim.crash()
    else:
        victim.stop(with_signal)
    tokens = dict(execute(url_of(victim), "SELECT container_id, token FROM containers"))
    for one, other in ((0, 1), (1, 0)):
        execute(
            url_of(victim),
            "UPDATE containers SET token = :token WHERE container_id = :id",
            token=tokens[containers[other]],
            id=containers[one],
        )
    execute(
        url_of(victim),
        "UPDATE containers SET address = '127.0.0.2' WHERE container_id = :id",
        id=containers[2],
    )
    victim.mark_log()
    victim.restart()
    assert [is_lost(session) for session in sessions] == [True, True, True, False]
    assert victim.log_tail(since_mark=True).count("cannot be decrypted") == 3
    assert sessions[3].printed("marker") == "3"
    sessions[3].delete()
