"""How the service stands to its engine, and so where the kernels' published ports are reached.

| mode | the service | the engine | ports |
| --- | --- | --- | --- |
| local | on a machine | there | loopback |
| rootless | on a machine | there, a user's own | loopback |
| Docker-in-Docker | in a container | in the same one | loopback |
| Docker-out-of-Docker | in a container | that runs it | the gateway of the container's network |
| remote | anywhere | at another address | that address |

Nothing here speaks to an engine: `find_deployment` asks through `EngineInspector`.
"""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from sessions.containers.errors import EngineMissing, EngineUnsupported, NoWayToKernels

Mode = Literal["local", "rootless", "Docker-in-Docker", "Docker-out-of-Docker", "remote"]

SYSTEM_SOCKET: Final = Path("/var/run/docker.sock")
NESTED_SOCKET: Final = Path("/run/code-interpreter/docker.sock")
"""Of an engine in the service's own container: the service is told, who comes by `docker exec` is not."""
LOOPBACK: Final = "127.0.0.1"
_SCHEMES: Final = ("unix", "tcp", "http", "https")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN_FILES: Final = re.compile(r"/containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")
"""A line of mountinfo: a file of the engine's, mounted for the container's names."""
_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTAINER_PREFIX: Final = "container:"


@dataclass(frozen=True)
class EngineAddress:
    """Where the engine is, and why there. The TLS fields are as in Docker's environment variables."""

    url: str
    why: str = "DOCKER_HOST says so"
    tls_verify: str = ""
    cert_path: str = ""

    @property
    def socket(self) -> Path | None:
        """The engine's socket, if it is one on this machine."""
        parts = urlsplit(self.url)
        return Path(parts.path) if parts.scheme == "unix" else None

    @property
    def host(self) -> str | None:
        """The machine that the URL names, if it names one."""
        return urlsplit(self.url).hostname if self.socket is None else None


@dataclass(frozen=True)
class KernelAddress:
    """What an operator says: where the engine's machine publishes ports, and where they are reached."""

    publish: str
    dial: str


@dataclass(frozen=True)
class Deployment:
    """How the service stands to its engine."""

    mode: Mode
    why: str
    publish: str = LOOPBACK
    """Address of the engine's machine that the kernels' ports are published on."""
    dial: str = LOOPBACK
    """Address at which the service reaches them."""
    doors: tuple[int, ...] = ()
    """Ports of the engine's machine at which the service itself is published."""

    @property
    def crosses_network(self) -> bool:
        """Whether the way to kernels' ports leaves this machine, for all that is known.

        A socket here may be that of an engine elsewhere, forwarded: then the operator says where ports are.
        """
        is_here = self.mode in ("Docker-in-Docker", "Docker-out-of-Docker")
        return self.mode == "remote" or not (is_here or self.dial.startswith("127."))


class EngineInspector(Protocol):
    """What an engine is asked."""

    def container(self, name: str) -> Mapping[str, Any] | None:
        """What it says of a container, or None if it has none of that id or name."""

    def is_bridge(self, network: str) -> bool:
        """Whether containers on that network have the engine's machine for a gateway."""

    def machine(self) -> str:
        """The host name of where it runs."""

    def is_rootless(self) -> bool:
        """Whether it runs as an ordinary user."""


def find_engine(
    docker_host: str | None, tls_verify: str = "", cert_path: str = "", runtime_dir: Path | None = None
) -> EngineAddress:
    """The engine that `DOCKER_HOST` names, or else the one whose socket is where engines have theirs.

    Raises:
        EngineMissing: there is no socket.
        EngineUnsupported: by that kind of URL the kernels' ports could not be reached.
    """
    if docker_host:
        if urlsplit(docker_host).scheme not in _SCHEMES:
            raise EngineUnsupported(docker_host)
        return EngineAddress(docker_host, tls_verify=tls_verify, cert_path=cert_path)
    places = [SYSTEM_SOCKET, NESTED_SOCKET, *_rootless_sockets(runtime_dir)]
    for place in places:
        with suppress(OSError):
            if place.is_socket():
                return EngineAddress(f"unix://{place}", "its socket is there")
    raise EngineMissing(tuple(map(str, places)))


def _rootless_sockets(runtime_dir: Path | None) -> Iterator[Path]:
    if runtime_dir is not None:
        yield runtime_dir / "docker.sock"
    yield Path(f"/run/user/{os.getuid()}/docker.sock")
    with suppress(RuntimeError):
        yield Path("~/.docker/run/docker.sock").expanduser()
        yield Path("~/.docker/desktop/docker.sock").expanduser()


def find_deployment(
    address: EngineAddress, engine: EngineInspector, given: KernelAddress | None = None
) -> Deployment:
    """Find out where this process is, as the engine sees it; `given` is what the operator says of the ports.

    Raises:
        NoWayToKernels: no address is known at which the service would reach the kernels' ports.
    """
    if given is not None:
        given = KernelAddress(resolve(given.publish), resolve(given.dial))
    own = _own_container(engine)
    if own is not None:
        return _beside(own, engine, given)
    mode, why, reached = _around(address, engine)
    if given is not None:
        return Deployment(mode, f"{why}; KERNEL_ADDRESS is set", given.publish, given.dial)
    if reached is None:
        raise NoWayToKernels(f"{why}, and that engine does not know this container")
    return Deployment(mode, why, reached, reached)


def _around(address: EngineAddress, engine: EngineInspector) -> tuple[Mode, str, str | None]:
    """Mode, reason, and where ports are reached, of a service that is in none of the engine's containers."""
    where = f"the engine is at {address.url} ({address.why})"
    if address.host is not None and not (there := resolve(address.host)).startswith("127."):
        return "remote", where, there
    if not in_container() or address.host is not None:
        return ("rootless" if engine.is_rootless() else "local"), where, LOOPBACK
    if engine.machine() == socket.gethostname():
        return "Docker-in-Docker", f"{where}, in the same container as this service", LOOPBACK
    return "remote", f"{where}, and this service is in a container", None


def _beside(own: Mapping[str, Any], engine: EngineInspector, given: KernelAddress | None) -> Deployment:
    """The service is one of the engine's containers, and its kernels are beside it."""
    doors = {
        int(binding["HostPort"])
        for bindings in (own["NetworkSettings"].get("Ports") or {}).values()
        for binding in bindings or ()
    }
    found = f"this service is in container {own['Id'][:12]} of its engine"
    mode: Final = "Docker-out-of-Docker"
    if given is not None:
        why = f"{found}; KERNEL_ADDRESS is set"
        return Deployment(mode, why, given.publish, given.dial, tuple(sorted(doors)))
    if own["HostConfig"]["NetworkMode"] == "host":
        return Deployment(mode, f"{found}, on the host's network")
    for name, network in sorted(own["NetworkSettings"]["Networks"].items()):
        gateway = network.get("Gateway")
        if gateway and engine.is_bridge(name):
            why = f"{found}, on network {name}"
            return Deployment(mode, why, gateway, gateway, tuple(sorted(doors)))
    raise NoWayToKernels(f"{found}, on none of its bridge networks")


def _own_container(engine: EngineInspector) -> Mapping[str, Any] | None:
    """What the engine says of the container that this process is in, if it is one of that engine's."""
    for name, certain in _candidates():
        found = engine.container(name)
        if found is not None:
            mode: str = found["HostConfig"]["NetworkMode"]
            if mode.startswith(_CONTAINER_PREFIX):
                # It has that one's interfaces, and so its gateway and its published ports.
                found = engine.container(mode.removeprefix(_CONTAINER_PREFIX)) or found
            if certain or any(map(_is_own_address, _addresses(found))):
                return found
    return None


def _candidates() -> Iterator[tuple[str, bool]]:
    """Names that this container may have, and whether there is no doubt about them."""
    with suppress(OSError):
        for container_id in dict.fromkeys(_OWN_FILES.findall(_MOUNTS.read_text())):
            yield container_id, True
    if in_container():
        yield socket.gethostname(), False


def in_container() -> bool:
    """Whether this process runs in a container of any engine."""
    return any(mark.exists() for mark in _CONTAINER_MARKS)


def _addresses(container: Mapping[str, Any]) -> Iterable[str]:
    networks = container["NetworkSettings"]["Networks"]
    return [network["IPAddress"] for network in networks.values() if network.get("IPAddress")]


def _is_own_address(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def resolve(name: str) -> str:
    """The IPv4 address of a host name. Raises `NoWayToKernels`."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise NoWayToKernels(f"{name} has no IPv4 address ({error.strerror or error})") from error
    return str(found[0][4][0])
