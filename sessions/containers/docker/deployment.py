"""How the service and its Docker engine are placed, and so where published ports of containers are reached.

| mode | the service runs | the engine runs | ports are reached at |
| --- | --- | --- | --- |
| local | on a machine | on the same machine | loopback |
| rootless | on a machine | on the same machine, as an ordinary user | loopback |
| Docker-in-Docker | in a container | in the same container | loopback |
| Docker-out-of-Docker | in a container of the engine | on the machine | the gateway of its network |
| remote | anywhere | at another address | that address |

No ports are published if this process has the bridge of the containers' network, see `DockerEngine.prepare`.

This module does not call an engine: `find_deployment` asks through an `EngineInspector`.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from sessions.containers.docker.address import EngineAddress
from sessions.containers.errors import NoWayToKernels

Mode = Literal["local", "rootless", "Docker-in-Docker", "Docker-out-of-Docker", "remote"]

LOOPBACK: Final = "127.0.0.1"
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN_FILES: Final = re.compile(r"/containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")
"""A line of mountinfo that has the id of this container: the engine mounts these files of its own."""
_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_NAMESPACES: Final = Path("/proc/self/ns")
_INITIAL_NAMESPACES: Final = {"pid": "pid:[4026531836]", "uts": "uts:[4026531838]"}
"""The namespaces that Linux starts with. Their numbers are constants of the Linux kernel."""
_CONTAINER_PREFIX: Final = "container:"


@dataclass(frozen=True)
class KernelAddress:
    """The operator's settings: where the engine publishes ports, and at which address they are reached."""

    publish: str
    dial: str


@dataclass(frozen=True)
class Deployment:
    """How the service and its engine are placed."""

    mode: Mode
    why: str
    """The reason for `mode`, for the log."""
    publish: str = LOOPBACK
    """Address of the engine's machine on which the containers' ports are published."""
    dial: str = LOOPBACK
    """Address at which the service reaches these ports."""
    service_ports: tuple[int, ...] = ()
    """Ports of the engine's machine on which the service itself is published."""

    @property
    def crosses_network(self) -> bool:
        """Whether the way to the containers' ports may leave this machine.

        A socket on this machine may be forwarded from an engine elsewhere. Then KERNEL_ADDRESS is set.
        """
        is_here = self.mode in ("Docker-in-Docker", "Docker-out-of-Docker")
        return self.mode == "remote" or not (is_here or self.dial.startswith("127."))


class EngineInspector(Protocol):
    """The questions that `find_deployment` asks an engine."""

    def container(self, name: str) -> Mapping[str, Any] | None:
        """Return the engine's description of a container, by id or name; None if it has no such container."""

    def is_bridge(self, network: str) -> bool:
        """Whether the gateway of containers on that network is the engine's machine."""

    def machine(self) -> str:
        """Return the host name of the machine that the engine runs on."""

    def is_rootless(self) -> bool:
        """Whether the engine runs as an ordinary user."""


def find_deployment(
    address: EngineAddress, engine: EngineInspector, given: KernelAddress | None = None
) -> Deployment:
    """Find out how this process and the engine are placed.

    Args:
        address: where the engine is.
        engine: asked for the container that this process may be in.
        given: the operator's settings, which are used instead of the addresses that are found.

    Raises:
        NoWayToKernels: no address is known at which the service could reach the containers' ports.
    """
    if given is not None:
        given = KernelAddress(resolve(given.publish), resolve(given.dial))
    own = _own_container(engine)
    if own is not None:
        return _in_container_of_engine(own, engine, given)
    mode, why, reached = _outside_containers(address, engine)
    if given is not None:
        return Deployment(mode, f"{why}; KERNEL_ADDRESS is set", given.publish, given.dial)
    if reached is None:
        raise NoWayToKernels(f"{why}, and that engine does not know this container")
    return Deployment(mode, why, reached, reached)


def _outside_containers(address: EngineAddress, engine: EngineInspector) -> tuple[Mode, str, str | None]:
    """Return mode, reason and address of published ports, for a process in no container of the engine."""
    where = f"the engine is at {address.url} ({address.why})"
    if address.host is not None and not (engine_host := resolve(address.host)).startswith("127."):
        return "remote", where, engine_host
    if not in_container() or address.host is not None:
        return ("rootless" if engine.is_rootless() else "local"), where, LOOPBACK
    if engine.machine() == socket.gethostname():
        return "Docker-in-Docker", f"{where}, in the same container as this service", LOOPBACK
    return "remote", f"{where}, and this service is in a container", None


def _in_container_of_engine(
    own: Mapping[str, Any], engine: EngineInspector, given: KernelAddress | None
) -> Deployment:
    """Return the deployment if this process is in the engine's container `own`."""
    published = {
        int(binding["HostPort"])
        for bindings in (own["NetworkSettings"].get("Ports") or {}).values()
        for binding in bindings or ()
    }
    service_ports = tuple(sorted(published))
    found = f"this service is in container {own['Id'][:12]} of its engine"
    mode: Final = "Docker-out-of-Docker"
    if given is not None:
        why = f"{found}; KERNEL_ADDRESS is set"
        return Deployment(mode, why, given.publish, given.dial, service_ports)
    if own["HostConfig"]["NetworkMode"] == "host":
        return Deployment(mode, f"{found}, on the host's network")
    for name, network in sorted(own["NetworkSettings"]["Networks"].items()):
        gateway = network.get("Gateway")
        if gateway and engine.is_bridge(name):
            return Deployment(mode, f"{found}, on network {name}", gateway, gateway, service_ports)
    raise NoWayToKernels(f"{found}, on none of its bridge networks")


def _own_container(engine: EngineInspector) -> Mapping[str, Any] | None:
    """Return the engine's description of the container that this process is in; None if there is none."""
    for name, is_certain in _candidates():
        found = engine.container(name)
        if found is not None:
            mode: str = found["HostConfig"]["NetworkMode"]
            if mode.startswith(_CONTAINER_PREFIX):
                # The container shares the interfaces of another one, and so its gateway and published ports.
                found = engine.container(mode.removeprefix(_CONTAINER_PREFIX)) or found
            if is_certain or any(map(_is_own_address, _addresses(found))):
                return found
    return None


def _candidates() -> Iterator[tuple[str, bool]]:
    """Yield ids or names that this container may have, and whether they are certain."""
    with suppress(OSError):
        for container_id in dict.fromkeys(_OWN_FILES.findall(_MOUNTS.read_text())):
            yield container_id, True
    if in_container():
        yield socket.gethostname(), False


def in_container() -> bool:
    """Whether this process runs in a container of any engine.

    A machine whose disk was made from a container's files has the mark of a container, too.
    """
    return any(mark.exists() for mark in _CONTAINER_MARKS) and not _is_in_initial_namespaces()


def _is_in_initial_namespaces() -> bool:
    try:
        return all(
            (_NAMESPACES / kind).readlink() == Path(link) for kind, link in _INITIAL_NAMESPACES.items()
        )
    except OSError:
        return False


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
    """Return the IPv4 address of a host name.

    Raises:
        NoWayToKernels: the name has no IPv4 address.
    """
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise NoWayToKernels(f"{name} has no IPv4 address ({error.strerror or error})") from error
    return str(found[0][4][0])
