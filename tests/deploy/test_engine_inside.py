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
"""The engine asks no registry of the outside: nobody listens there."""


@pytest.fixture(scope="module")
def inside(preloaded_image: str) -> Iterator[ServiceContainer]:
    """The README's command, with an image that has the kernel image inside, and no way to any registry."""
    container = ServiceContainer.as_typed(
        "code-interpreter:preloaded", *PRIVILEGED, *UNREACHED, image=preloaded_image
    )
    with finished(container):
        yield container


@pytest.fixture(scope="module")
def empty(service_image: str) -> Iterator[ServiceContainer]:
    """The README's command, with no kernel image inside and no way to a registry."""
    command = "--privileged -p 8000:8000 code-interpreter"
    container = ServiceContainer.as_typed(command, *PRIVILEGED, *UNREACHED, image=service_image, wait=False)
    with finished(container):
        yield container


@pytest.fixture(scope="module")
def broken(service_image: str) -> Iterator[ServiceContainer]:
    """A container whose engine does not start: its folder can't be written."""
    container = ServiceContainer(
        *PRIVILEGED, "--volume", "/proc/sys:/var/lib/docker:ro", service_image, wait=False
    )
    with finished(container):
        yield container


def test_without_a_kernel_image_it_says_what_to_do(
    empty: ServiceContainer, broken: ServiceContainer, inside: ServiceContainer
) -> None:
    """One sentence names the ways to bring the image; the container ends, and never was ready."""
    log = wait_for("it will be pulled; where no registry is reached, mount what", empty)
    assert empty.wait() == 3
    log = empty.log()
    assert "./build-preloaded.sh" in log
    assert "is not there" in log
    assert "is up at" not in log
    assert "Traceback" not in log


def test_an_engine_that_does_not_start_shows_its_log(broken: ServiceContainer) -> None:
    """The container ends with a sentence and the end of dockerd's log."""
    assert broken.wait() == 1
    log = broken.log()
    assert "the container's own Docker engine did not start" in log
    assert "--privileged" in log
    assert "the end of /var/log/dockerd.log:\nchmod /var/lib/docker: read-only file system" in log
    assert "Traceback" not in log


def test_it_says_which_mode_it_found_and_why(inside: ServiceContainer) -> None:
    """One line at the start, after the engine's."""
    log = inside.log()
    assert "mode: Docker-in-Docker, since the engine is at unix:///run/code-interpreter/docker.sock" in log
    assert "in the same container as this service; kernels are reached at 127.0.0.1" in log
    assert "was mounted in" in log, "the embedded image need not be unpacked"


def test_the_self_test_passes(inside: ServiceContainer) -> None:
    """All walls hold in the engine inside as they do on a machine's."""
    report = inside.wait_until_ready()["self_test"]
    assert len(report) > 20
    assert all(check["ok"] for check in report), report


def test_the_service_is_not_root(inside: ServiceContainer) -> None:
    """Only what watches the engine is; the service is a user whose group may use the engine's socket."""
    status = inside.status_of(inside.process("bin/code-interpreter-api"))
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert status["Groups"] == ""
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert inside.status_of(1)["Uid"].split() == ["0"] * 4


def test_who_comes_later_finds_the_engine(inside: ServiceContainer) -> None:
    """`docker exec … code-interpreter-api doctor` does not get the environment of the service."""
    code = "from sessions.containers.docker.address import find_engine; print(find_engine(None).url)"
    assert inside.run("python", "-c", code).strip() == f"unix://{ENGINE_FOLDER}/docker.sock"


def test_the_example_runs_through_it(inside: ServiceContainer, tmp_path: Path) -> None:
    """Files go up, a model is fitted, a chart and a spreadsheet come down."""
    assert "cultivar recognised: 98.3%" in analyse(inside, tmp_path)


def test_an_engine_that_dies_is_started_again(inside: ServiceContainer) -> None:
    """SIGKILL to dockerd: the container goes on, says so, and runs code again."""
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
    """`docker restart`: in order to the end, and from what the volume has to a service that is ready."""
    docker("restart", "--time", "30", inside.name)
    inside.wait_until_ready()
    assert inside.api.run("print(6 * 7)")["stdout"] == "42\n"
    assert len(json.loads(inside.run("python", "-I", "-c", LIST_CONTAINERS))) >= 1


def test_a_stopped_container_ends_in_order(inside: ServiceContainer) -> None:
    """SIGTERM: the service stops first, then its engine, and the container ends with 0 within seconds."""
    before = inside.log()
    began = time.monotonic()
    assert inside.stop() == 0
    assert time.monotonic() - began < 20
    said = inside.log()[len(before) :]
    assert "Application shutdown complete" in said
    assert "is started again" not in said
