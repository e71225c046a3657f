"""Docker-in-Docker: the service and its engine in one container, with the kernel image inside and without.

What the README starts with `--privileged` is started here with nearly all that this option gives, since
machines that test may refuse it: see `tests.deploy.container.PRIVILEGED`. Where these tests run on cgroup v1,
the part of deploy/nested.py that is for v2 has nothing to do.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import analyse, finished, wait_for
from tests.deploy.container import PRIVILEGED, ServiceContainer, docker

pytestmark = pytest.mark.timeout(150)

ENGINE_FOLDER = "/run/code-interpreter"
LIST_CONTAINERS = """
import http.client, json, socket
engine = http.client.HTTPConnection("localhost")
engine.sock = socket.socket(socket.AF_UNIX)
engine.sock.connect("/run/code-interpreter/docker.sock")
engine.request("GET", "/containers/json?all=1")
print(json.dumps([container["Names"][0] for container in json.load(engine.getresponse())]))
"""
UNREACHED = ("--env", "HTTPS_PROXY=http://127.0.0.1:9", "--env", "NO_PROXY=localhost")
"""Nothing listens at this address, so that the engine reaches no registry."""


@pytest.fixture(scope="module")
def inside(preloaded_image: str) -> Iterator[ServiceContainer]:
    """Start the README's command with the kernel image inside, and without a registry."""
    container = ServiceContainer.as_typed(
        "code-interpreter:preloaded", *PRIVILEGED, *UNREACHED, image=preloaded_image
    )
    with finished(container):
        yield container


@pytest.fixture(scope="module")
def empty(service_image: str) -> Iterator[ServiceContainer]:
    """Start the README's command without the kernel image, and without a registry."""
    command = "--privileged -p 8000:8000 code-interpreter"
    container = ServiceContainer.as_typed(command, *PRIVILEGED, *UNREACHED, image=service_image, wait=False)
    with finished(container):
        yield container


@pytest.fixture(scope="module")
def broken(service_image: str) -> Iterator[ServiceContainer]:
    """Start a container whose engine cannot start, because its folder is read-only."""
    container = ServiceContainer(
        *PRIVILEGED, "--volume", "/proc/sys:/var/lib/docker:ro", service_image, wait=False
    )
    with finished(container):
        yield container


def test_service_without_a_kernel_image_says_what_to_do(
    empty: ServiceContainer, broken: ServiceContainer, inside: ServiceContainer
) -> None:
    """One sentence names the ways to provide the image. The container ends without ever being ready."""
    log = wait_for("so the image will be pulled; if no registry can be reached, mount", empty)
    assert empty.wait() == 3
    log = empty.log()
    assert "./build-preloaded.sh" in log
    assert "is not there" in log
    assert "is up at" not in log
    assert "Traceback" not in log


def test_an_engine_that_does_not_start_shows_its_log(broken: ServiceContainer) -> None:
    """The container ends with one sentence and the last lines of dockerd's log."""
    assert broken.wait() == 1
    log = broken.log()
    assert "the container's own Docker engine did not start" in log
    assert "--privileged" in log
    assert "the end of /var/log/dockerd.log:\nchmod /var/lib/docker: read-only file system" in log
    assert "Traceback" not in log


def test_service_logs_its_mode_and_the_reason(inside: ServiceContainer) -> None:
    """The start logs one line, after the line of the engine."""
    log = inside.log()
    assert "mode: Docker-in-Docker, since the engine is at unix:///run/code-interpreter/docker.sock" in log
    assert "in the same container as this service; published ports are reached at 127.0.0.1" in log
    assert "was mounted in" in log, "the embedded image need not be unpacked"


def test_the_self_test_passes(inside: ServiceContainer) -> None:
    """All isolation checks hold in the engine inside the container."""
    report = inside.wait_until_ready()["self_test"]
    assert len(report) > 20
    assert all(check["ok"] for check in report), report


def test_the_service_is_not_root(inside: ServiceContainer) -> None:
    """Only PID 1 and the engine run as root. The service's user may use the engine's socket."""
    status = inside.status_of(inside.process("bin/code-interpreter-api"))
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert status["Groups"] == ""
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert inside.status_of(1)["Uid"].split() == ["0"] * 4


def test_program_of_docker_exec_finds_the_engine(inside: ServiceContainer) -> None:
    """`docker exec … code-interpreter-api doctor` does not get the environment of the service."""
    code = "from sessions.containers.docker.address import find_engine; print(find_engine(None).url)"
    assert inside.run("python", "-c", code).strip() == f"unix://{ENGINE_FOLDER}/docker.sock"


def test_readme_example_runs(inside: ServiceContainer, tmp_path: Path) -> None:
    """The example uploads files, fits a model, and downloads a chart and a spreadsheet."""
    assert "cultivar recognised: 98.3%" in analyse(inside, tmp_path)


def test_killed_engine_is_started_again(inside: ServiceContainer) -> None:
    """After SIGKILL to dockerd, the container logs the exit, and runs code again."""
    before = inside.process("dockerd --host")
    inside.run("python", "-I", "-c", f"import os; os.kill({before}, 9)")
    wait_for("ended with -9 and is started again", inside)
    deadline = time.monotonic() + 60
    while (response := inside.api.execute("print(6 * 7)")).status_code != 200:
        assert response.status_code == 503 and time.monotonic() < deadline, inside.log()
        time.sleep(0.5)
    assert response.json()["stdout"] == "42\n"
    assert inside.process("dockerd --host") != before


def test_a_restarted_container_starts_its_engine_again(inside: ServiceContainer) -> None:
    """After `docker restart` the container becomes ready again, with the data of its volume."""
    docker("restart", "--time", "30", inside.name)
    inside.wait_until_ready()
    assert inside.api.run("print(6 * 7)")["stdout"] == "42\n"
    assert len(json.loads(inside.run("python", "-I", "-c", LIST_CONTAINERS))) >= 1


def test_a_stopped_container_ends_in_order(inside: ServiceContainer) -> None:
    """After SIGTERM the service stops first, then its engine. The container exits with 0."""
    before = inside.log()
    assert inside.stop() == 0
    log = inside.log()[len(before) :]
    assert "Application shutdown complete" in log
    assert "is started again" not in log
