"""Which engine is found, and how the service and the engine are placed. tests/deploy uses real containers."""

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
    """An `EngineInspector` with these containers, on this machine or another."""

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
    """Return the engine's description of a container. Its address is loopback, which this process has."""
    networks = {
        name: {"Gateway": gateway, "IPAddress": "127.0.0.1" if gateway else ""}
        for name, gateway in gateways.items()
    }
    settings = {"Networks": networks, "Ports": ports or {}}
    return {"Id": socket.gethostname(), "HostConfig": {"NetworkMode": mode}, "NetworkSettings": settings}


UNIX = EngineAddress("unix:///somewhere.sock", "its socket is there")


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `in_container` return True in this process."""
    monkeypatch.setattr(deployment, "_CONTAINER_MARKS", (tmp_path,))
    monkeypatch.setattr(deployment, "_NAMESPACES", tmp_path)


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `in_container` return False in this process."""
    monkeypatch.setattr(deployment, "_CONTAINER_MARKS", ())


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return a user's folder with a rootless engine's socket, on a machine without the system's socket."""
    monkeypatch.setattr(address, "SYSTEM_SOCKET", tmp_path / "none.sock")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        yield tmp_path


def test_rootless_socket_is_found_without_the_systems_socket(runtime_dir: Path) -> None:
    """The socket is found in `XDG_RUNTIME_DIR`. A regular file with the same name is ignored."""
    assert find_engine(None, runtime_dir=runtime_dir).url == f"unix://{runtime_dir}/docker.sock"
    (runtime_dir / "docker.sock").unlink()
    (runtime_dir / "docker.sock").touch()
    with pytest.raises(EngineMissing, match=r"--privileged"):
        find_engine(None, runtime_dir=runtime_dir)


def test_docker_host_comes_before_any_socket(runtime_dir: Path) -> None:
    """`DOCKER_HOST` is used with its TLS settings, even if a socket exists."""
    found = find_engine("tcp://engine:2376", "1", "/certs", runtime_dir)
    assert (found.url, found.host, found.socket) == ("tcp://engine:2376", "engine", None)
    assert (found.tls_verify, found.cert_path) == ("1", "/certs")


@pytest.mark.parametrize("url", ["ssh://user@engine", "npipe:////./pipe/docker", "engine:2376", "fd://"])
def test_url_of_an_unsupported_kind_is_refused(url: str) -> None:
    """The error names the kinds that are supported."""
    with pytest.raises(EngineUnsupported, match=r"tcp:// with DOCKER_TLS_VERIFY=1"):
        find_engine(url)


def test_service_on_a_machine_uses_loopback(on_machine: None) -> None:
    """The engine may be an ordinary or a rootless one, or listen on loopback's TCP."""
    assert find_deployment(UNIX, KnownEngine()).mode == "local"
    rootless = find_deployment(UNIX, KnownEngine(rootless=True))
    assert (rootless.mode, rootless.publish, rootless.dial) == ("rootless", "127.0.0.1", "127.0.0.1")
    assert find_deployment(EngineAddress("tcp://localhost:2375"), KnownEngine()).mode == "local"


def test_machine_made_from_a_container_is_a_machine(
    in_container: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mark of a container is on its disk, but its processes are in the first namespaces."""
    assert deployment.in_container()
    (tmp_path / "pid").symlink_to("pid:[4026531836]")
    (tmp_path / "uts").symlink_to("uts:[4026532182]")
    assert deployment.in_container(), "a container may share the machine's processes"
    (tmp_path / "uts").unlink()
    (tmp_path / "uts").symlink_to("uts:[4026531838]")
    assert find_deployment(UNIX, KnownEngine()).mode == "local"


def test_engine_on_another_machine_is_reached_at_docker_host(on_machine: None) -> None:
    """`KERNEL_ADDRESS` replaces the address in the URL."""
    there = EngineAddress("tcp://192.0.2.7:2376")
    found = find_deployment(there, KnownEngine())
    assert (found.mode, found.publish, found.dial) == ("remote", "192.0.2.7", "192.0.2.7")
    given = find_deployment(there, KnownEngine(), KernelAddress("0.0.0.0", "192.0.2.9"))
    assert (given.mode, given.publish, given.dial) == ("remote", "0.0.0.0", "192.0.2.9")


def test_engine_in_the_same_container_is_recognised(in_container: None) -> None:
    """Such an engine has the host name of the container. Another one needs `KERNEL_ADDRESS`."""
    assert find_deployment(UNIX, KnownEngine()).mode == "Docker-in-Docker"
    other = KnownEngine(machine="elsewhere")
    with pytest.raises(NoWayToKernels, match=r"does not know this container; put this service on"):
        find_deployment(UNIX, other)
    assert find_deployment(UNIX, other, KernelAddress("192.0.2.7", "192.0.2.7")).dial == "192.0.2.7"


@pytest.mark.parametrize(
    ("mode", "dial", "crosses"),
    [
        ("local", "127.0.0.1", False),
        ("rootless", "127.0.0.1", False),
        ("Docker-in-Docker", "127.0.0.1", False),
        ("Docker-out-of-Docker", "172.17.0.1", False),
        ("remote", "192.0.2.7", True),
        # The socket or TCP port of the engine is forwarded from elsewhere, and the kernels' ports are not.
        ("local", "192.0.2.7", True),
    ],
)
def test_only_ports_of_another_machine_cross_the_network(mode: Mode, dial: str, crosses: bool) -> None:
    """These ports use TLS by default."""
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
def test_service_in_a_container_uses_the_gateway_of_a_bridge(
    own: Container, bridges: str, expected: str, in_container: None
) -> None:
    """Of several networks it takes the first bridge by name. Others have no usable gateway."""
    found = find_deployment(UNIX, KnownEngine(own, bridges=bridges))
    assert (found.mode, found.publish, found.dial) == ("Docker-out-of-Docker", expected, expected)


def test_error_for_a_container_on_no_bridge_says_what_to_do(in_container: None) -> None:
    """The container has `--network none`, or only networks whose gateway is not the engine's machine."""
    with pytest.raises(NoWayToKernels, match=r"docker network connect"):
        find_deployment(UNIX, KnownEngine(described("swarm", swarm="192.0.2.1")))


def test_ports_on_which_the_service_is_published_are_known(in_container: None) -> None:
    """The self-test tries to reach them."""
    ports = {"8000/tcp": [{"HostPort": "9000"}, {"HostPort": "9001"}], "81/tcp": None}
    found = find_deployment(UNIX, KnownEngine(described(ports=ports, bridge="192.0.2.1")))
    assert found.service_ports == (9000, 9001)


def test_container_of_the_same_name_elsewhere_is_ignored(in_container: None) -> None:
    """Its name is this machine's host name, but this process does not have its addresses."""
    other = described(bridge="192.0.2.1")
    other["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "192.0.2.55"
    found = find_deployment(UNIX, KnownEngine(other))
    assert found == Deployment("Docker-in-Docker", found.why)


def test_mounts_of_a_container_give_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mounts of /etc/hostname and the like do. Mounts that a machine has of its containers do not."""
    own, other = "a" * 64, "b" * 64
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 2 0:3 / /var/lib/docker/containers/{other}/mounts/shm rw - tmpfs shm rw\n"
        f"4 5 8:1 /var/lib/docker/containers/{own}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"
        f"4 5 8:1 /var/lib/docker/containers/{own}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
    )
    monkeypatch.setattr(deployment, "_MOUNTS", table)
    own_description = described(bridge="192.0.2.1") | {"Id": own}
    own_description["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = "192.0.2.55"
    found = find_deployment(UNIX, KnownEngine(own_description, described() | {"Id": other}))
    assert found.dial == "192.0.2.1"
    assert own[:12] in found.why
