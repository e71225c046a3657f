"""Which engine is found, and how the service stands to it; the containers themselves: tests/deploy."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessions.containers.docker import address, deployment
from sessions.containers.docker.address import EngineAddress, find_engine
from sessions.containers.docker.deployment import Deployment, KernelAddress, Mode, find_deployment
from sessions.containers.errors import EngineMissing, EngineUnsupported, NoWayToKernels

Container = dict[str, Any]


class KnownEngine:
    """Answers as an engine does that has these containers, on this machine or another."""

    def __init__(
        self, *containers: Container, machine: str = "", rootless: bool = False, bridges: str = "bridge"
    ) -> None:
        self._containers = {container["Id"]: container for container in containers}
        self._machine = machine or socket.gethostname()
        self._rootless = rootless
        self._bridges = bridges.split()

    def container(self, name: str) -> Container | None:
        return self._containers.get(name)

    def is_bridge(self, network: str) -> bool:
        return network in self._bridges

    def machine(self) -> str:
        return self._machine

    def is_rootless(self) -> bool:
        return self._rootless


def described(mode: str = "default", ports: dict[str, Any] | None = None, **gateways: str) -> Container:
    """A container as the engine describes it, with loopback for its address, which is surely ours."""
    networks = {
        name: {"Gateway": gateway, "IPAddress": "127.0.0.1" if gateway else ""}
        for name, gateway in gateways.items()
    }
    settings = {"Networks": networks, "Ports": ports or {}}
    return {"Id": socket.gethostname(), "HostConfig": {"NetworkMode": mode}, "NetworkSettings": settings}


UNIX = EngineAddress("unix:///somewhere.sock", "its socket is there")


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process takes itself for one in a container."""
    monkeypatch.setattr(deployment, "_CONTAINER_MARKS", (tmp_path,))


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes itself for one in no container."""
    monkeypatch.setattr(deployment, "_CONTAINER_MARKS", ())


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user's folder with a rootless engine's socket, on a machine without the system's."""
    monkeypatch.setattr(address, "SYSTEM_SOCKET", tmp_path / "none.sock")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        yield tmp_path


def test_a_rootless_socket_is_found_where_the_systems_is_missing(runtime_dir: Path) -> None:
    """In `XDG_RUNTIME_DIR`; a file of that name that is no socket is passed over."""
    assert find_engine(None, runtime_dir=runtime_dir).url == f"unix://{runtime_dir}/docker.sock"
    (runtime_dir / "docker.sock").unlink()
    (runtime_dir / "docker.sock").touch()
    with pytest.raises(EngineMissing, match=r"--privileged"):
        find_engine(None, runtime_dir=runtime_dir)


def test_what_the_operator_names_is_taken(runtime_dir: Path) -> None:
    """`DOCKER_HOST` goes before any socket, with its keys."""
    found = find_engine("tcp://engine:2376", "1", "/certs", runtime_dir)
    assert (found.url, found.host, found.socket) == ("tcp://engine:2376", "engine", None)
    assert (found.tls_verify, found.cert_path) == ("1", "/certs")


@pytest.mark.parametrize("url", ["ssh://user@engine", "npipe:////./pipe/docker", "engine:2376", "fd://"])
def test_an_engine_whose_kernels_cannot_be_reached_is_refused(url: str) -> None:
    """Other ways to an engine than its socket and TCP are told so."""
    with pytest.raises(EngineUnsupported, match=r"tcp:// with DOCKER_TLS_VERIFY=1"):
        find_engine(url)


def test_on_a_machine_loopback_is_right(on_machine: None) -> None:
    """Beside the engine, an ordinary one or a rootless one, also where that listens on loopback's TCP."""
    assert find_deployment(UNIX, KnownEngine()).mode == "local"
    rootless = find_deployment(UNIX, KnownEngine(rootless=True))
    assert (rootless.mode, rootless.publish, rootless.dial) == ("rootless", "127.0.0.1", "127.0.0.1")
    assert find_deployment(EngineAddress("tcp://localhost:2375"), KnownEngine()).mode == "local"


def test_another_machine_is_reached_where_docker_host_says(on_machine: None) -> None:
    """At the address that the URL names; `KERNEL_ADDRESS` says otherwise."""
    there = EngineAddress("tcp://192.0.2.7:2376")
    found = find_deployment(there, KnownEngine())
    assert (found.mode, found.publish, found.dial) == ("remote", "192.0.2.7", "192.0.2.7")
    said = find_deployment(there, KnownEngine(), KernelAddress("0.0.0.0", "192.0.2.9"))
    assert (said.mode, said.publish, said.dial) == ("remote", "0.0.0.0", "192.0.2.9")


def test_an_engine_of_the_same_container_is_told_from_a_strange_one(in_container: None) -> None:
    """By the machine's name; of a strange one nothing is known, unless the operator says it."""
    assert find_deployment(UNIX, KnownEngine()).mode == "Docker-in-Docker"
    strange = KnownEngine(machine="elsewhere")
    with pytest.raises(NoWayToKernels, match=r"does not know this container; put this service on"):
        find_deployment(UNIX, strange)
    assert find_deployment(UNIX, strange, KernelAddress("192.0.2.7", "192.0.2.7")).dial == "192.0.2.7"


@pytest.mark.parametrize(
    ("mode", "dial", "crosses"),
    [
        ("local", "127.0.0.1", False),
        ("rootless", "127.0.0.1", False),
        ("Docker-in-Docker", "127.0.0.1", False),
        ("Docker-out-of-Docker", "172.17.0.1", False),
        ("remote", "192.0.2.7", True),
        # Its socket, or its TCP port, is forwarded from elsewhere, and its kernels' ports are not.
        ("local", "192.0.2.7", True),
    ],
)
def test_where_the_way_to_kernels_is_a_network(mode: Mode, dial: str, crosses: bool) -> None:
    """There it is TLS: on another machine's engine, and nowhere else."""
    assert Deployment(mode, "", dial, dial).crosses_network is crosses


@pytest.mark.parametrize(
    ("own", "bridges", "expected"),
    [
        (described(bridge="192.0.2.1"), "bridge", "192.0.2.1"),
        (described(b="192.0.2.2", a="192.0.2.1"), "a b", "192.0.2.1"),
        (described(swarm="192.0.2.9", zoo="192.0.2.1"), "zoo", "192.0.2.1"),
        (described(none="", own="192.0.2.1"), "none own", "192.0.2.1"),
    ],
    ids=["one", "several", "one that is no bridge", "one without a gateway"],
)
def test_beside_the_engine_the_gateway_of_a_bridge_is_right(
    own: Container, bridges: str, expected: str, in_container: None
) -> None:
    """Of several networks the first bridge by name; others have no gateway on the engine's machine."""
    found = find_deployment(UNIX, KnownEngine(own, bridges=bridges))
    assert (found.mode, found.publish, found.dial) == ("Docker-out-of-Docker", expected, expected)


def test_a_container_on_no_bridge_is_told_what_to_do(in_container: None) -> None:
    """`--network none`, or networks whose gateway is not the engine's machine."""
    with pytest.raises(NoWayToKernels, match=r"docker network connect"):
        find_deployment(UNIX, KnownEngine(described("swarm", swarm="192.0.2.1")))


def test_the_ports_that_lead_back_to_it_are_known(in_container: None) -> None:
    """Where the service is published, for the self-test to knock at."""
    ports = {"8000/tcp": [{"HostPort": "9000"}, {"HostPort": "9001"}], "81/tcp": None}
    found = find_deployment(UNIX, KnownEngine(described(ports=ports, bridge="192.0.2.1")))
    assert found.service_ports == (9000, 9001)


def test_a_container_of_that_name_elsewhere_is_not_taken_for_this_one(in_container: None) -> None:
    """Another one may be called as this machine is: its addresses are not ours."""
    other = described(bridge="192.0.2.1")
    other["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "192.0.2.55"
    found = find_deployment(UNIX, KnownEngine(other))
    assert found == Deployment("Docker-in-Docker", found.why)


def test_a_containers_own_files_tell_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mounts of the container's names do; those that a machine sees of its containers do not."""
    own, other = "a" * 64, "b" * 64
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 2 0:3 / /var/lib/docker/containers/{other}/mounts/shm rw - tmpfs shm rw\n"
        f"4 5 8:1 /var/lib/docker/containers/{own}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"
        f"4 5 8:1 /var/lib/docker/containers/{own}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
    )
    monkeypatch.setattr(deployment, "_MOUNTS", table)
    mine = described(bridge="192.0.2.1") | {"Id": own}
    mine["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "192.0.2.55"
    found = find_deployment(UNIX, KnownEngine(mine, described() | {"Id": other}))
    assert found.dial == "192.0.2.1"
    assert own[:12] in found.why
