"""The start-up self-test: all isolation checks hold, and the service does not start if one fails."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import LIGHT, StartService, docker_only
from tests.hostile import weakened
from tests.support.engine import Engine
from tests.support.process import Service, serve_to_the_end

pytestmark = [
    pytest.mark.timeout(120),
    docker_only("it changes Docker's settings; tests/kubernetes/test_refusals.py is for pods"),
]

CANNOT_START = 3

# Settings that are left out of the containers, and the isolation checks that fail then.
WITHOUT_SETTING = {
    "the engine's filter": {"system call filters"},
    "the read-only root": {"read-only root", "mounts"},
    "the limit of processes": {"processes"},
    "the CPU quota": {"CPU"},
    "the resource limits": {"process limits"},
    "the limits of tmpfs": {"writable folders"},
    "one of the tmpfs": {"writable folders"},
    "a root without the host's folders": {"mounts"},
    "a root without the engine's socket": {"mounts"},
    "a /dev without the host's devices": {"devices"},
    weakened.NO_MEMORY_LIMIT: {"memory"},
    weakened.NO_UID_OF_OURS: {"user"},
}

# A piece of the kernel image's code, its replacement, and the isolation checks that fail then.
WITHOUT_CODE = {
    "the firewall": (
        (
            "confinement/firewall.py",
            "    requests = _requests(open_ports",
            "    return\n    requests = _requests(open_ports",
        ),
        {"host", "service's port", "Docker's resolver", "supervisor's port"},
    ),
    "our filter of system calls": (
        ("confinement/seccomp.py", "    header = _Filter(", "    return\n    header = _Filter("),
        {"system call filters", "system calls", "sockets"},
    ),
    "an empty bounding set": (
        ("confinement/privileges.py", "    number = 0\n", "    return\n    number = 0\n"),
        {"capabilities"},
    ),
    "a group of its own": (("confinement/privileges.py", "    os.setresgid(uid, uid, uid)\n", ""), {"user"}),
    "a probe that answers": (
        ("confinement/probe.py", "    print(json.dumps(", "    (json.dumps("),
        {"probe"},
    ),
    "a probe that can be imported": (
        ("confinement/probe.py", "import ctypes\n", "import no_such_module\n"),
        {"probe"},
    ),
}


@dataclass(frozen=True)
class Start:
    """How a service's start ended."""

    exit_code: int
    log: str
    left: set[str]
    """Containers that it left behind."""

    @property
    def missing(self) -> set[str]:
        """Return the names of the failed checks in the log."""
        return {
            line.removeprefix("- ").partition(":")[0]
            for line in self.log.splitlines()
            if line.startswith("- ")
        }


def start(engine: Engine, folder: Path, *command: str, **settings: str) -> Start:
    """Start a service that should refuse to serve, and wait for its end."""
    instance_id = f"refusing-{uuid.uuid4().hex}"
    given = {"HOST": "0.0.0.0", "INSTANCE_ID": instance_id} | LIGHT | settings
    try:
        ended = serve_to_the_end(folder / instance_id, *command, **given)
    finally:
        left = engine.owned(instance_id)
        for container_id in left:
            engine.remove(container_id)
    return Start(ended.returncode, ended.stdout, left)


@pytest.fixture(scope="module")
def refusals(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Start]]:
    """Start all weakened services, two at a time. Each test asks for one of them."""
    folder = tmp_path_factory.mktemp("refusing")

    def without_code(name: str) -> Start:
        (file, there, instead), _ = WITHOUT_CODE[name]
        with engine.changed_image(file, there, instead) as image:
            return start(engine, folder, "service", PYTHON_EXECUTOR_DOCKER_IMAGE=image)

    starts: dict[str, Future[Start]] = {}
    with ThreadPoolExecutor(2) as threads, ExitStack() as stack:
        stack.callback(threads.shutdown, cancel_futures=True)
        for name in WITHOUT_SETTING:
            starts[name] = threads.submit(start, engine, folder, weakened.__name__, name)
        for name in WITHOUT_CODE:
            starts[name] = threads.submit(without_code, name)
        yield lambda name: starts[name].result()


def check_refusal(refusal: Start, expected: set[str]) -> None:
    """Check the exit status, the sentence for each failed check, and that nothing was served or left."""
    assert refusal.exit_code == CANNOT_START, refusal.log
    assert refusal.missing == expected, refusal.log
    assert "is up at" not in refusal.log
    assert "Traceback" not in refusal.log
    assert refusal.left == set()
    for line in refusal.log.splitlines():
        assert not line.startswith("- ") or ". Help: " in line


@pytest.mark.parametrize("name", WITHOUT_SETTING)
def test_it_refuses_to_serve_without(name: str, refusals: Callable[[str], Start]) -> None:
    """A container lacks a setting. The service names the failed checks and ends."""
    check_refusal(refusals(name), WITHOUT_SETTING[name])


@pytest.mark.parametrize("name", WITHOUT_CODE)
def test_it_refuses_to_serve_with_an_image_without(name: str, refusals: Callable[[str], Start]) -> None:
    """The code of the kernel image leaves something out. The service names the failed checks and ends."""
    check_refusal(refusals(name), WITHOUT_CODE[name][1])


def test_ready_shows_the_report_of_the_self_test(service: Service) -> None:
    """Each check has its name, whether it holds, and what was found."""
    report = service.api.http.get("/ready").json()["self_test"]
    assert len(report) > 20
    for check in report:
        assert set(check) == {"name", "ok", "detail"}
        assert check["ok"] is True
        assert check["detail"]
    named = {check["name"] for check in report}
    for name in {*chain(*WITHOUT_SETTING.values(), *(checks for _, checks in WITHOUT_CODE.values()))}:
        assert name in named or name == "probe"


def test_examined_kernel_is_as_new_for_the_first_caller(start_service: StartService) -> None:
    """The kernel has run no cell, its workspace is empty, and no process is left. Any runtime can be used.

    In /tmp is nothing but the file of the program.
    """
    service = start_service(POOL_SIZE=1, KERNEL_RUNTIME="io.containerd.runc.v2")
    (container_id,) = service.settle()
    assert service.engine.inspect(container_id)["HostConfig"]["Runtime"] == "io.containerd.runc.v2"
    code = (
        "import os, pathlib\n"
        "mine = [p.name for p in pathlib.Path('/proc').glob('[0-9]*') if p.stat().st_uid == os.getuid()]\n"
        "print(os.listdir('/workspace'), os.listdir('/tmp'), mine == [str(os.getpid())], len(In))"
    )
    result = service.api.run(code)
    assert result["stdout"] == "[] ['program'] True 2\n", result["stderr"]
    assert result["execution_count"] == 1


def test_unknown_runtime_ends_the_start_with_one_sentence(engine: Engine, tmp_path: Path) -> None:
    """The engine does not know the name in `KERNEL_RUNTIME`."""
    refusal = start(engine, tmp_path, "service", KERNEL_RUNTIME="no-such-runtime")
    assert refusal.exit_code == CANNOT_START, refusal.log
    assert "the container engine has no runtime 'no-such-runtime' (KERNEL_RUNTIME)" in refusal.log
    assert "Traceback" not in refusal.log
    assert refusal.left == set()


def test_a_probe_that_fails_says_why(refusals: Callable[[str], Start]) -> None:
    """The sentence has the probe's own error."""
    assert "No module named 'no_such_module'" in refusals("a probe that can be imported").log
