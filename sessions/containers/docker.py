"""Kernel containers on a Docker engine. The one module that imports `docker`."""

import asyncio
import contextlib
import functools
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar

import docker
import requests.exceptions
from docker.errors import APIError, DockerException, NotFound
from docker.errors import ImageNotFound as DockerImageNotFound
from docker.utils import parse_repository_tag

from kernel_image import contract
from sessions.containers.deployment import Deployment, EngineAddress, KernelAddress, find_deployment
from sessions.containers.engine import Lack
from sessions.containers.errors import (
    EngineForbidden,
    EngineUnavailable,
    ImageNotFound,
    LaunchFailed,
    RuntimeNotFound,
)
from sessions.errors import SessionsError
from sessions.models import Container, ContainerSpec, EngineFacts, Image, Surroundings

_NANOSECONDS: Final = re.compile(r"(\.\d{6})\d+")

P = ParamSpec("P")
T = TypeVar("T")

_NETWORK: Final = "code-interpreter"
"""One bridge for all instances of a daemon, which has few to give; containers on it can't see each other."""
_CAPABILITIES: Final = ["NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL"]
"""PID 1 gives up NET_ADMIN once the network is closed; the user's code has none."""
_CPU_PERIOD_USEC: Final = 100_000
_NO_QUOTA: Final = -1
_CONCURRENT_CALLS: Final = 8
_CALL_TIMEOUT_SEC: Final = 60
_LIMITS: Final = ("MemoryLimit", "PidsLimit", "CpuCfsQuota")


@contextlib.contextmanager
def _docker_errors() -> Iterator[None]:
    try:
        yield
    except DockerImageNotFound as error:
        raise ImageNotFound(str(error.explanation)) from error
    except APIError as error:
        raise LaunchFailed(str(error.explanation or error)) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineUnavailable(str(error)) from error


class _Inspector:
    """`sessions.containers.deployment.EngineInspector` of a Docker engine. Calls block."""

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


class DockerEngine:
    """`sessions.containers.engine.Engine` on Docker. Calls block, so they run on threads of their own."""

    lacks: frozenset[Lack] = frozenset()

    def __init__(
        self,
        address: EngineAddress,
        registry_id: str = "",
        kernel_address: KernelAddress | None = None,
        *,
        seal: bool | None = None,
    ) -> None:
        """Connect, and find out how this service stands to the engine.

        Args:
            registry_id: tells its containers from those of another registry's instance of the same name.
            kernel_address: where kernels' ports are published and dialled, if that is not to be found out.
            seal: whether these ports speak TLS; None: where the way to them is a network.

        Raises:
            EngineUnavailable, EngineForbidden, NoWayToKernels: it cannot be used.
        """
        self._registry_id = registry_id
        self._threads = ThreadPoolExecutor(_CONCURRENT_CALLS, thread_name_prefix="docker")
        with _docker_errors():
            try:
                self._client = docker.from_env(
                    timeout=_CALL_TIMEOUT_SEC,
                    max_pool_size=_CONCURRENT_CALLS,
                    environment={
                        "DOCKER_HOST": address.url,
                        "DOCKER_TLS_VERIFY": address.tls_verify,
                        "DOCKER_CERT_PATH": address.cert_path,
                    },
                )
            except DockerException:
                place = address.socket
                if place is not None and place.exists() and not os.access(place, os.R_OK | os.W_OK):
                    raise EngineForbidden(str(place), place.stat().st_gid) from None
                raise
            self.deployment: Deployment = find_deployment(
                address, _Inspector(self._client.api), kernel_address
            )
        self.seals = self.deployment.crosses_network if seal is None else seal

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        with _docker_errors():
            return await loop.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))

    async def ping(self) -> None:
        await self._call(self._client.ping)

    async def identity(self) -> str:
        return str((await self._call(self._client.api.info))["ID"])

    async def facts(self) -> EngineFacts:
        """What the engine says of itself, for the doctor."""
        return await self._call(self._facts)

    def _facts(self) -> EngineFacts:
        asked_at = time.time()
        info = self._client.api.info()
        now = (asked_at + time.time()) / 2
        found = self._client.api.version().get("Components") or []
        return EngineFacts(
            version=info["ServerVersion"],
            components={part["Name"]: _package_version(part) for part in found},
            storage_driver=info["Driver"],
            cgroup_version=info.get("CgroupVersion", "1"),
            cgroup_driver=info.get("CgroupDriver", "unknown"),
            lacks=tuple(name for name in _LIMITS if not info.get(name, False)),
            security=tuple(option.partition(",")[0][5:] for option in info.get("SecurityOptions") or ()),
            live_restore=info.get("LiveRestoreEnabled", False),
            default_runtime=info.get("DefaultRuntime", ""),
            runtimes=tuple(info.get("Runtimes") or ()),
            warnings=tuple(_line(warning) for warning in info.get("Warnings") or ()),
            kernel=info["KernelVersion"],
            system=info["OperatingSystem"],
            cpus=info["NCPU"],
            memory_bytes=info["MemTotal"],
            folder=info["DockerRootDir"],
            clock_ahead_sec=_seconds(info["SystemTime"]) - now,
            is_local=self._client.api.base_url.startswith("http+docker"),
        )

    async def prepare(self) -> None:
        await self._call(self._make_network)

    async def image(self, name: str) -> Image | None:
        return await self._call(self._find_image, name)

    def _find_image(self, name: str) -> Image | None:
        try:
            found = self._client.api.inspect_image(name)
        except NotFound:
            return None
        config = found["Config"] or {}
        command = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
        return Image(found["Id"], config.get("Labels") or {}, command)

    async def pull(self, name: str, tell: Callable[[Mapping[str, Any]], None]) -> None:
        given_up = threading.Event()
        try:
            await self._call(self._pull, name, tell, given_up)
        finally:
            given_up.set()

    def _pull(self, name: str, tell: Callable[[Mapping[str, Any]], None], given_up: threading.Event) -> None:
        repository, tag = parse_repository_tag(name)
        try:
            for event in self._client.api.pull(repository, tag or "latest", stream=True, decode=True):
                if given_up.is_set():
                    return
                if "error" in event:
                    raise ImageNotFound(name, _line(event["error"]))
                tell(event)
        except APIError as error:
            raise ImageNotFound(name, _line(error.explanation or error)) from error

    def _make_network(self) -> None:
        """See to it that there is a network for kernels, and one of that name.

        Not every engine keeps services that start at the same moment from making one each, and none is
        known by its name then. So who finds several removes the younger ones, as far as they are empty.
        """
        found = self._networks()
        if len(found) == 1:
            return
        if not found:
            options = {"com.docker.network.bridge.enable_icc": "false"}
            try:
                self._client.api.create_network(
                    _NETWORK, driver="bridge", check_duplicate=True, options=options
                )
            except APIError as error:
                made_by_another_instance_just_now = error.status_code == 409
                if not made_by_another_instance_just_now:
                    raise
        for network in sorted(self._networks(), key=_made_at, reverse=True):
            if len(self._networks()) > 1:
                with contextlib.suppress(APIError):
                    self._client.api.remove_network(network["Id"])

    def _networks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.api.networks(names=[f"^{_NETWORK}$"])
        return found

    async def launch(self, spec: ContainerSpec) -> Container:
        launching = asyncio.ensure_future(self._call(self._launch, spec))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            # The thread goes on: what it makes has no owner.
            with contextlib.suppress(SessionsError):
                await self.remove((await launching).container_id)
            raise

    def _launch(self, spec: ContainerSpec) -> Container:
        try:
            return self._launch_once(spec)
        except APIError as error:
            if "ambiguous" not in str(error.explanation):
                raise
            # Another service has just made one more network of that name.
            self._make_network()
            return self._launch_once(spec)

    def _launch_once(self, spec: ContainerSpec) -> Container:
        api = self._client.api
        name = f"code-interpreter-{spec.instance_id[:8]}-{secrets.token_hex(6)}"
        container_id = self._create(
            spec,
            name=name,
            hostname="kernel",
            ports=list(contract.PORTS),
            environment={
                contract.TOKEN_DIGEST_VARIABLE: hashlib.sha256(spec.token.encode()).hexdigest(),
                contract.LEASE_VARIABLE: str(spec.limits.lease_sec),
                contract.TLS_VARIABLE: str(int(self.seals)),
            },
            labels={
                contract.INSTANCE_LABEL: spec.instance_id,
                contract.REGISTRY_LABEL: self._registry_id,
                contract.ROLE_LABEL: contract.ROLE,
            },
        )
        try:
            api.start(container_id)
            published = api.inspect_container(container_id)["NetworkSettings"]["Ports"]
            ports = {port: int(published[f"{port}/tcp"][0]["HostPort"]) for port in contract.PORTS}
        except (KeyError, TypeError, IndexError) as error:
            self._remove(container_id)
            raise LaunchFailed("it ended at once or its ports were not published") from error
        except BaseException:
            self._remove(container_id)
            raise
        return Container(container_id, name, self.deployment.dial, ports)

    def _create(self, spec: ContainerSpec, **options: Any) -> str:
        api = self._client.api
        bindings: dict[int | str, Any] = dict.fromkeys(contract.PORTS, (self.deployment.publish,))
        host_config = api.create_host_config(port_bindings=bindings, **_host_config(spec))
        try:
            created = api.create_container(spec.image, host_config=host_config, **options)
        except APIError as error:
            if spec.runtime is not None and "runtime" in str(error.explanation).lower():
                raise RuntimeNotFound(spec.runtime) from error
            raise
        container_id: str = created["Id"]
        return container_id

    async def remove(self, container_id: str) -> None:
        await self._call(self._remove, container_id)

    def _remove(self, container_id: str) -> None:
        try:
            self._client.api.remove_container(container_id, force=True, v=True)
        except APIError as error:
            already_gone_or_going = error.status_code in (404, 409)
            if not already_gone_or_going:
                raise

    async def limit_memory(self, container_id: str, memory_bytes: int) -> bool:
        update = self._client.api.update_container
        await self._call(update, container_id, mem_limit=memory_bytes, memswap_limit=memory_bytes)
        return True

    @asynccontextmanager
    async def unthrottled(self, container_id: str) -> AsyncIterator[None]:
        found = await self._call(self._client.api.inspect_container, container_id)
        await self._call(self._client.api.update_container, container_id, cpu_quota=_NO_QUOTA)
        try:
            yield
        finally:
            quota = found["HostConfig"]["CpuQuota"]
            await self._call(self._client.api.update_container, container_id, cpu_quota=quota)

    async def surroundings(self, container_id: str) -> Surroundings:
        own = (await self._call(self._client.api.inspect_container, container_id))["NetworkSettings"]
        (attached,) = own["Networks"].values()
        network = await self._call(self._client.api.inspect_network, attached["NetworkID"])
        others = [found for other, found in network["Containers"].items() if other != container_id]
        return Surroundings(
            gateway=attached["Gateway"],
            peers=tuple(found["IPv4Address"].partition("/")[0] for found in others if found["IPv4Address"]),
            host=self.deployment.dial,
            doors=self.deployment.doors,
        )

    async def running(self, instance_id: str) -> set[str]:
        labels = [
            f"{contract.INSTANCE_LABEL}={instance_id}",
            f"{contract.REGISTRY_LABEL}={self._registry_id}",
        ]
        found = await self._call(self._client.api.containers, all=True, quiet=True, filters={"label": labels})
        return {container["Id"] for container in found}

    async def close(self) -> None:
        await self._call(self._client.close)
        self._threads.shutdown(wait=False)


def _package_version(component: Mapping[str, Any]) -> str:
    """Distributions put the package's version where others have a commit."""
    version: str = component["Version"]
    details: str = (component.get("Details") or {}).get("GitCommit") or ""
    return details if details.startswith(version) else version


def _made_at(network: Mapping[str, Any]) -> tuple[float, str]:
    return _seconds(network["Created"]), network["Id"]


def _seconds(moment: str) -> float:
    """A moment as the engine writes it, with nanoseconds, in seconds since the epoch."""
    return datetime.fromisoformat(_NANOSECONDS.sub(r"\1", moment)).timestamp()


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    """Everything the user's code must not have is taken away here or by PID 1."""
    limits = spec.limits
    # More than any disk holds, so that a full one says so.
    largest_file = limits.workspace_bytes + limits.tmp_bytes

    def tmpfs(size: int, mode: int) -> str:
        owner = f"uid={contract.USER_ID},gid={contract.USER_ID}"
        return f"rw,nosuid,nodev,exec,size={size},nr_inodes={contract.TMPFS_INODES},mode={mode:04o},{owner}"

    return {
        "network_mode": _NETWORK,
        "auto_remove": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": _CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "tmpfs": {
            folder: tmpfs(limits.workspace_bytes if folder == contract.WORKSPACE else limits.tmp_bytes, mode)
            for folder, mode in contract.WRITABLE_FOLDERS.items()
        },
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "pids_limit": limits.pids,
        "cpu_period": _CPU_PERIOD_USEC,
        "cpu_quota": int(limits.cpus * _CPU_PERIOD_USEC),
        "ulimits": [
            docker.types.Ulimit(name="nofile", soft=contract.OPEN_FILES, hard=contract.OPEN_FILES),
            docker.types.Ulimit(name="core", soft=0, hard=0),
            docker.types.Ulimit(name="fsize", soft=largest_file, hard=largest_file),
        ],
        "ipc_mode": "private",
        "log_config": docker.types.LogConfig(type="none"),
        "runtime": spec.runtime,
    }
