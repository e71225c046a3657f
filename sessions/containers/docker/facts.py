"""Facts that an engine reports about itself and its containers. Calls block."""

import re
import time
from datetime import datetime
from typing import Any, Final

import docker
from docker.errors import NotFound

from sessions.containers.engine_facts import EngineFacts

_NANOSECONDS: Final = re.compile(r"(\.\d{6})\d+")
_LIMITS: Final = ("MemoryLimit", "PidsLimit", "CpuCfsQuota")


class Inspector:
    """`sessions.containers.docker.deployment.EngineInspector` of a Docker engine."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    def container(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.inspect_container(name)
        except NotFound:
            return None
        return found

    def is_bridge(self, network: str) -> bool:
        return bool(self._api.inspect_network(network)["Driver"] == "bridge")

    def machine(self) -> str:
        return str(self._api.info()["Name"])

    def is_rootless(self) -> bool:
        return "name=rootless" in (self._api.info().get("SecurityOptions") or ())


def facts_of(api: docker.APIClient) -> EngineFacts:
    """Ask the engine for its versions, limits, options and clock."""
    asked_at = time.time()
    info = api.info()
    now = (asked_at + time.time()) / 2
    return EngineFacts(
        version=info["ServerVersion"],
        storage_driver=info["Driver"],
        cgroup_version=info.get("CgroupVersion", "1"),
        cgroup_driver=info.get("CgroupDriver", "unknown"),
        missing_limits=tuple(name for name in _LIMITS if not info.get(name, False)),
        security=tuple(option.partition(",")[0][5:] for option in info.get("SecurityOptions") or ()),
        live_restore=info.get("LiveRestoreEnabled", False),
        default_runtime=info.get("DefaultRuntime", ""),
        runtimes=tuple(info.get("Runtimes") or ()),
        warnings=tuple(one_line(warning) for warning in info.get("Warnings") or ()),
        kernel=info["KernelVersion"],
        system=info["OperatingSystem"],
        cpus=info["NCPU"],
        memory_bytes=info["MemTotal"],
        folder=info["DockerRootDir"],
        clock_ahead_sec=seconds_of(info["SystemTime"]) - now,
        is_local=api.base_url.startswith("http+docker"),
    )


def seconds_of(moment: str) -> float:
    """Return a time that the engine wrote, with nanoseconds, in seconds since the epoch."""
    return datetime.fromisoformat(_NANOSECONDS.sub(r"\1", moment)).timestamp()


def one_line(text: object) -> str:
    """Return a text of the engine on one line."""
    return " ".join(str(text).split())
