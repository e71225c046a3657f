"""Facts that an engine reports: about itself, its images, and the network around a container."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """An image that the engine has.

    `command` is the command that its containers run. `labels` is None if the engine does not list them.
    """

    image_id: str
    labels: Mapping[str, str] | None
    command: tuple[str, ...]


@dataclass(frozen=True)
class EngineFacts:
    """Facts that an engine reports about itself and its machine."""

    version: str
    storage_driver: str
    cgroup_version: str
    cgroup_driver: str
    missing_limits: tuple[str, ...]
    """Limits that its machine cannot set, by Docker's names: `PidsLimit`, …"""
    security: tuple[str, ...]
    """Its security options by name: `seccomp`, `rootless`, …"""
    live_restore: bool
    default_runtime: str
    runtimes: tuple[str, ...]
    warnings: tuple[str, ...]
    kernel: str
    system: str
    cpus: int
    memory_bytes: int
    folder: str
    """The folder of images and containers, on the machine of the engine."""
    clock_ahead_sec: float
    """Seconds by which the clock of the engine is ahead of this machine's; includes the time of the call."""
    is_local: bool
    """Whether the engine listens on a Unix socket of this machine."""


@dataclass(frozen=True)
class Surroundings:
    """Addresses around a container, none of which user code may reach.

    `gateway` is the engine's machine on the containers' network; `peers` are other containers there.
    `host` is the address at which this service reaches published ports; `service_ports` are the ports there
    on which the service itself is published. `others` are further addresses, such as the cluster's API.
    """

    gateway: str
    peers: tuple[str, ...]
    host: str
    service_ports: tuple[int, ...] = ()
    others: tuple[tuple[str, int], ...] = ()
