"""`sessions.containers.engine.Engine` on Docker."""

import asyncio
import contextlib
import functools
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, ParamSpec, TypeVar

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.utils import parse_repository_tag

from kernel_image import contract
from sessions.containers.docker import container_options, user_ids
from sessions.containers.docker.address import EngineAddress
from sessions.containers.docker.deployment import Deployment, KernelAddress, find_deployment
from sessions.containers.docker.facts import Inspector, facts_of, one_line
from sessions.containers.docker.library_errors import is_name_conflict, library_errors
from sessions.containers.docker.network import NAME as NETWORK
from sessions.containers.docker.network import ensure_network, is_ambiguous, is_on_this_machine
from sessions.containers.engine import Feature
from sessions.containers.engine_facts import EngineFacts, Image, Surroundings
from sessions.containers.errors import (
    EngineForbidden,
    ImageNotFound,
    LaunchFailed,
    RuntimeNotFound,
)
from sessions.errors import SessionsError
from sessions.models import Container, ContainerSpec

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_NO_QUOTA: Final = -1
_CONCURRENT_CALLS: Final = 8
_CALL_TIMEOUT_SEC: Final = 60


class DockerEngine:
    """A Docker engine. The library's calls block, so they run on threads of the engine's own."""

    unsupported_features: frozenset[Feature] = frozenset()

    def __init__(
        self,
        address: EngineAddress,
        registry_id: str = "",
        kernel_address: KernelAddress | None = None,
        *,
        uses_tls: bool | None = None,
    ) -> None:
        """Connect, and find out how the service and the engine are placed.

        Args:
            address: where the engine is.
            registry_id: keeps apart instances of the same id in different registries.
            kernel_address: where ports are published and reached; None: find out.
            uses_tls: whether these ports use TLS; None: if the way to them may leave this machine.

        Raises:
            EngineUnavailable, EngineForbidden, NoWayToKernels: the engine cannot be used.
        """
        self._registry_id = registry_id
        self._may_skip_publishing = kernel_address is None
        self._publishes = True
        self._threads = ThreadPoolExecutor(_CONCURRENT_CALLS, thread_name_prefix="docker")
        with library_errors():
            self._client = _connect(address)
            inspector = Inspector(self._client.api)
            self.deployment: Deployment = find_deployment(address, inspector, kernel_address)
        self.uses_tls = self.deployment.crosses_network if uses_tls is None else uses_tls

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        with library_errors():
            return await loop.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))

    # --- the engine -------------------------------------------------------------------------------

    async def ping(self) -> None:
        await self._call(self._client.ping)

    async def identity(self) -> str:
        return str((await self._call(self._client.api.info))["ID"])

    async def facts(self) -> EngineFacts:
        """Return what the engine reports about itself, for the doctor."""
        return await self._call(facts_of, self._client.api)

    async def prepare(self) -> None:
        """Create the network. Find out whether containers have to publish ports, which costs CPU time."""
        await self._call(ensure_network, self._client.api)
        if self._publishes and self._may_skip_publishing:
            self._publishes = not await self._call(is_on_this_machine, self._client.api)
            if not self._publishes:
                log.info("kernels publish no ports, because their own addresses are reached from here")

    async def close(self) -> None:
        await self._call(self._client.close)
        self._threads.shutdown(wait=False)

    # --- images -----------------------------------------------------------------------------------

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

    async def pull(self, name: str, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        is_cancelled = threading.Event()
        try:
            await self._call(self._pull, name, on_event, is_cancelled)
        finally:
            is_cancelled.set()

    def _pull(
        self, name: str, on_event: Callable[[Mapping[str, Any]], None], is_cancelled: threading.Event
    ) -> None:
        repository, tag = parse_repository_tag(name)
        try:
            for event in self._client.api.pull(repository, tag or "latest", stream=True, decode=True):
                if is_cancelled.is_set():
                    return
                if "error" in event:
                    raise ImageNotFound(name, one_line(event["error"]))
                on_event(event)
        except APIError as error:
            raise ImageNotFound(name, one_line(error.explanation or error)) from error

    # --- containers -------------------------------------------------------------------------------

    async def launch(self, spec: ContainerSpec) -> Container:
        launching = asyncio.ensure_future(self._call(self._launch, spec))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            # The thread cannot be cancelled: wait for its container, and remove it.
            with contextlib.suppress(SessionsError):
                await self.remove((await launching).container_id)
            raise

    def _launch(self, spec: ContainerSpec) -> Container:
        try:
            return self._launch_once(spec)
        except APIError as error:
            if not is_ambiguous(error):
                raise
            # Another service has created a network of the same name just now.
            ensure_network(self._client.api)
            return self._launch_once(spec)

    def _launch_once(self, spec: ContainerSpec) -> Container:
        api = self._client.api
        container_id, user_id = self._create_for_new_user(spec)
        try:
            api.start(container_id)
            host, ports = self._way_to(api.inspect_container(container_id)["NetworkSettings"])
        except (KeyError, TypeError, IndexError) as error:
            self._remove(container_id)
            raise LaunchFailed("it ended at once or its ports were not published") from error
        except BaseException:
            self._remove(container_id)
            raise
        name = container_options.name(user_id)
        return Container(container_id, name, host, ports, user_id)

    def _way_to(self, network_settings: Mapping[str, Any]) -> tuple[str, dict[int, int]]:
        """Return the address of a running container's ports, and their numbers there.

        Raises:
            KeyError, TypeError, IndexError: the container has ended.
        """
        if not self._publishes:
            address: str = network_settings["Networks"][NETWORK]["IPAddress"]
            if not address:
                raise KeyError("IPAddress")
            return address, {port: port for port in contract.PORTS}
        published = network_settings["Ports"]
        ports = {port: int(published[f"{port}/tcp"][0]["HostPort"]) for port in contract.PORTS}
        return self.deployment.dial, ports

    def _create_for_new_user(self, spec: ContainerSpec) -> tuple[str, int]:
        """Create a container, and return its id and a uid that no other container of the engine has.

        The engine itself refuses a second container of the same name, also to another service. So it is asked
        which uids are in use only after a refusal.
        """
        taken: set[int] = set()
        while True:
            user_id = user_ids.choose(taken)
            try:
                return self._create(spec, user_id), user_id
            except APIError as error:
                if not is_name_conflict(error):
                    raise
            taken |= {user_id, *self._user_ids()}

    def _user_ids(self) -> set[int]:
        """Return the uids of all kernel containers on the engine, of this service and of others."""
        found = self._client.api.containers(all=True, filters={"label": [contract.USER_LABEL]})
        return {int(container["Labels"][contract.USER_LABEL]) for container in found}

    def _create(self, spec: ContainerSpec, user_id: int) -> str:
        api = self._client.api
        published = contract.PORTS if self._publishes else ()
        bindings: dict[int | str, Any] = dict.fromkeys(published, (self.deployment.publish,))
        options = container_options.host_config(spec, user_id)
        host_config = api.create_host_config(port_bindings=bindings, **options)
        try:
            created = api.create_container(
                spec.image,
                name=container_options.name(user_id),
                hostname="kernel",
                ports=list(published),
                environment=container_options.environment(spec, user_id, uses_tls=self.uses_tls),
                labels=container_options.labels(spec.instance_id, self._registry_id, user_id),
                host_config=host_config,
            )
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
            service_ports=self.deployment.service_ports,
        )

    async def running(self, instance_id: str) -> set[str]:
        wanted = [
            f"{contract.INSTANCE_LABEL}={instance_id}",
            f"{contract.REGISTRY_LABEL}={self._registry_id}",
        ]
        found = await self._call(self._client.api.containers, all=True, quiet=True, filters={"label": wanted})
        return {container["Id"] for container in found}


def _connect(address: EngineAddress) -> docker.DockerClient:
    try:
        return docker.from_env(
            timeout=_CALL_TIMEOUT_SEC,
            max_pool_size=_CONCURRENT_CALLS,
            environment={
                "DOCKER_HOST": address.url,
                "DOCKER_TLS_VERIFY": address.tls_verify,
                "DOCKER_CERT_PATH": address.cert_path,
            },
        )
    except DockerException:
        path = address.socket
        if path is not None and path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise EngineForbidden(str(path), path.stat().st_gid) from None
        raise
