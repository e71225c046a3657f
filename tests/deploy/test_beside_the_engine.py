"""Docker-out-of-Docker: the service runs in a container, its kernels beside it on the machine's engine."""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from tests.deploy.conftest import analyse, finished, wait_for
from tests.deploy.container import LIGHT, ServiceContainer, docker
from tests.hostile.test_network import CONNECT_TO_ALL
from tests.support.engine import Engine
from tests.support.session import Session

pytestmark = pytest.mark.timeout(150)

SOCKET = Path("/var/run/docker.sock")
MOUNTED = ("--volume", f"{SOCKET}:{SOCKET}")
ONE_KERNEL = ("--env", "POOL_SIZE=1", *LIGHT)


@pytest.fixture(scope="module", autouse=True)
def machine_has_the_socket() -> None:
    """Skip the tests if the machine's own engine is not in use."""
    if not SOCKET.is_socket() or os.environ.get("DOCKER_HOST"):
        pytest.skip(f"the engine is not at {SOCKET}")


@pytest.fixture(scope="module")
def container(service_image: str, engine: Engine) -> Iterator[ServiceContainer]:
    """Start a container with the README's command, and wait until it is ready."""
    container = ServiceContainer.as_typed("docker.sock code-interpreter", image=service_image)
    with finished(container, engine):
        yield container


@pytest.fixture
def started(service_image: str, engine: Engine) -> Iterator[Callable[..., ServiceContainer]]:
    """Return a function that starts a container. At the end, check that nothing of it is left."""
    with ExitStack() as stack:

        def start(*arguments: str, wait: bool = True) -> ServiceContainer:
            container = ServiceContainer(*ONE_KERNEL, *arguments, service_image, wait=False)
            stack.enter_context(finished(container, engine))
            networks = container.inspect()["NetworkSettings"]["Networks"]
            addresses = [network["IPAddress"] for network in networks.values() if network["IPAddress"]]
            container.at(f"http://{addresses[0]}:8000" if addresses else "http://127.0.0.1:8000")
            if wait:
                container.wait_until_ready()
            return container

        yield start


def open_session(container: ServiceContainer) -> Session:
    """Open a session of ten minutes."""
    response = container.api.http.post("/v1/sessions", json={"ttl_seconds": 600})
    assert response.status_code == 201, response.text
    # The class needs only the address of the API.
    return Session(cast("Any", container), response.json())


def wait_until_full(container: ServiceContainer) -> None:
    """Wait until no kernel is being started."""
    deadline = time.monotonic() + 30
    while (pool := container.wait_until_ready()["pool"])["starting"] or pool["ready"] < pool["target"]:
        assert time.monotonic() < deadline, pool
        time.sleep(0.1)


def test_service_logs_its_mode_and_the_reason(container: ServiceContainer) -> None:
    """The start logs one line with the mode, the container, the network and the address."""
    (line,) = (line for line in container.log().splitlines() if " mode: " in line)
    gateway = container.inspect()["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    assert "mode: Docker-out-of-Docker, since this service is in container" in line
    assert container.inspect()["Id"][:12] in line
    assert f"on network bridge; published ports are reached at {gateway}" in line


def test_self_test_tries_the_container_and_its_published_port(container: ServiceContainer) -> None:
    """All isolation checks hold. They tried the service's own address and its published port."""
    report = {check["name"]: check for check in container.wait_until_ready()["self_test"]}
    assert len(report) > 20
    assert all(check["ok"] for check in report.values())
    network = container.inspect()["NetworkSettings"]["Networks"]["bridge"]
    published = container.base_url.rpartition(":")[2]
    tried = report["service's port"]["detail"]
    for address in (f"{network['IPAddress']}:8000", f"{network['Gateway']}:{published}"):
        assert f"tcp {address}" in tried
    assert network["IPAddress"] in report["host"]["detail"]
    assert network["Gateway"] in report["other kernels"]["detail"]


def test_the_service_is_not_root(container: ServiceContainer) -> None:
    """The container starts as root, and becomes a user with no capabilities and the socket's group."""
    status = container.status_of(1)
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert status["Groups"].split() == [str(SOCKET.stat().st_gid)]
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


def test_readme_example_runs(container: ServiceContainer, tmp_path: Path) -> None:
    """The example uploads files, fits a model, and downloads a chart and a spreadsheet."""
    assert "cultivar recognised: 98.3%" in analyse(container, tmp_path)


def test_kernels_reach_neither_the_service_nor_each_other(
    container: ServiceContainer, engine: Engine
) -> None:
    """User code tries every reachable address: the container, its published port, and other kernels."""
    session = open_session(container)
    other = open_session(container)
    wait_until_full(container)
    network = container.inspect()["NetworkSettings"]["Networks"]["bridge"]
    targets = [(network["IPAddress"], 8000), (network["Gateway"], int(container.base_url.rpartition(":")[2]))]
    for kernel in engine.inspected(container.instance_id):
        for bindings in kernel["NetworkSettings"]["Ports"].values():
            targets += [(binding["HostIp"], int(binding["HostPort"])) for binding in bindings]
    assert len(targets) >= 2 + 2 * 3
    for target in targets:
        socket.create_connection(target, timeout=5).close()
    result = session.run(CONNECT_TO_ALL, stdin=json.dumps(targets))
    ended = json.loads(result["stdout"])
    assert len(ended) == len(targets)
    assert "reached" not in ended.values(), ended
    session.delete()
    other.delete()


def test_doctor_runs_inside_the_container(container: ServiceContainer) -> None:
    """The doctor uses the same engine, and does not measure the container's own /var/lib/docker."""
    report = json.loads(container.run("python", "-m", "service", "doctor", "--json"))
    assert report["ok"], report
    found = {finding["check"]: finding for finding in report["findings"]}
    assert found["mode"]["seen"].startswith("Docker-out-of-Docker, since this service is in container")
    assert "this service, version" in found["port"]["seen"]
    assert found["isolation"]["level"] == "ok"
    assert "engine's disk" not in found


def test_a_session_survives_a_restart_of_the_container(container: ServiceContainer) -> None:
    """After `docker restart` variables and files are still there, and new kernels can be reached."""
    session = open_session(container)
    session.run("marker = 'from before'; open('kept.txt', 'w').write('kept')")
    docker("restart", container.name)
    container.wait_until_ready()
    result = session.run("print(marker, open('kept.txt').read())")
    assert (result["stdout"], result["state"]) == ("from before kept\n", "kept")
    assert container.api.run("print(6 * 7)")["stdout"] == "42\n"
    assert session.delete().status_code == 204


@pytest.fixture
def volumes() -> Iterator[tuple[str, ...]]:
    """Create named volumes, and return the arguments that mount them at the image's two folders."""
    names = {
        f"deployed-{uuid.uuid4().hex[:12]}": folder
        for folder in ("/var/lib/code-interpreter", "/var/lib/code-interpreter-key")
    }
    yield tuple(word for name, folder in names.items() for word in ("--volume", f"{name}:{folder}"))
    docker("volume", "rm", *names)


def test_session_survives_a_new_container_with_the_same_volumes(
    volumes: tuple[str, ...], started: Callable[..., ServiceContainer]
) -> None:
    """The key is in a volume of its own. Without that volume the session is lost, and files stay."""
    same = ("--env", f"INSTANCE_ID=deployed-{uuid.uuid4().hex[:12]}", *MOUNTED)
    user = ("--user", "1000", "--group-add", str(SOCKET.stat().st_gid))
    first = started(*same, *user, *volumes)
    session = open_session(first)
    session.run("marker = 'from before'")
    file_id = first.api.upload(b"kept")
    assert first.run("stat", "-c", "%a %u", "/var/lib/code-interpreter-key/registry.key") == "600 1000\n"
    first.stop()
    second = started(*same, *user, *volumes)
    url = f"/v1/sessions/{session.id}"
    answer = second.api.http.post(f"{url}/execute", json={"code": "print(marker)"})
    assert answer.json()["stdout"] == "from before\n"
    second.stop()
    third = started(*same, *volumes[:2])
    assert third.api.http.get(url).json()["reason"] == "lost"
    assert "were encrypted with another key" in third.log() and "Traceback" not in third.log()
    assert third.api.download(file_id) == b"kept"
    assert third.status_of(1)["Uid"].split() == ["10001"] * 4


def test_health_check_succeeds(container: ServiceContainer) -> None:
    """The engine runs the image's health check."""
    check = container.inspect()["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    container.run(*check[1:])
    ended = docker("exec", "--env", "PORT=1", container.name, *check[1:], check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "http://127.0.0.1:1/ready" in ended.stderr


def test_container_runs_as_an_ordinary_user_of_the_sockets_group(
    started: Callable[..., ServiceContainer],
) -> None:
    """With `--user 1000 --group-add` nothing needs root. The service stops in order and leaves no kernel."""
    container = started("--user", "1000", "--group-add", str(SOCKET.stat().st_gid), *MOUNTED)
    assert container.status_of(1)["Uid"].split() == ["1000"] * 4
    assert container.api.run("print(6 * 7)")["stdout"] == "42\n"
    assert container.stop() == 0


@pytest.fixture
def own_network() -> Iterator[str]:
    """Create a network like those of Compose, and return its name."""
    name = f"deployed-{os.getpid()}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def test_service_works_on_a_user_defined_network(
    own_network: str, started: Callable[..., ServiceContainer]
) -> None:
    """The service reaches kernels by the gateway of its own network."""
    container = started("--network", own_network, *MOUNTED)
    gateway = container.inspect()["NetworkSettings"]["Networks"][own_network]["Gateway"]
    assert f"on network {own_network}; published ports are reached at {gateway}" in container.log()
    assert container.api.run("print(6 * 7)")["stdout"] == "42\n"


def test_service_on_the_hosts_network_uses_loopback(started: Callable[..., ServiceContainer]) -> None:
    """With `--network host` the service reaches kernels as if it ran on the machine itself."""
    container = started("--network", "host", "--env", "PORT=0", *MOUNTED, wait=False)
    log = wait_for("is up at", container)
    container.at(log.partition("is up at ")[2].split()[0])
    assert "on the host's network; published ports are reached at 127.0.0.1" in log
    assert container.api.run("print(6 * 7)")["stdout"] == "42\n"


REFUSALS = {
    "no engine": (
        (),
        "there is no Docker engine (DOCKER_HOST is unset, and no socket at /var/run/docker.sock",
    ),
    "no network": (("--network", "none", *MOUNTED), "on none of its bridge networks; put this service on a"),
    "no permission": (("--user", "1000", *MOUNTED), "this user may not use the Docker engine at /var/run/"),
    "keys on a file system that is read-only": (
        ("--read-only", "--env", "DOCKER_HOST=tcp://127.0.0.1:1", "--env", "DOCKER_CERT_PATH=/etc"),
        "with --read-only, add --tmpfs /run",
    ),
    "ssh": (("--env", "DOCKER_HOST=ssh://somewhere"), "DOCKER_HOST=ssh://somewhere cannot be used"),
}
"""Reasons why a container cannot run kernels: its arguments, and a part of its message."""


@pytest.fixture(scope="module")
def refused(service_image: str) -> Iterator[dict[str, ServiceContainer]]:
    """Start all containers that must fail, at once."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(finished(ServiceContainer(*arguments, service_image, wait=False)))
            for name, (arguments, _) in REFUSALS.items()
        }


@pytest.mark.parametrize("name", REFUSALS)
def test_service_that_cannot_run_kernels_says_what_to_do(
    name: str, refused: dict[str, ServiceContainer]
) -> None:
    """The container ends. Its log has one sentence with the remedy, and no traceback."""
    assert refused[name].wait() in (1, 3)
    log = refused[name].log()
    assert REFUSALS[name][1] in log
    assert "Traceback" not in log


def test_a_stopped_container_leaves_no_kernels(container: ServiceContainer, engine: Engine) -> None:
    """After SIGTERM the container exits with 0 within seconds, and its kernels are gone."""
    assert engine.kernels(container.instance_id)
    assert container.stop() == 0
    assert engine.wait_for_none(container.instance_id, 10) == set()
