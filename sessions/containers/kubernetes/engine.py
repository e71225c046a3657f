"""`sessions.containers.engine.Engine` on Kubernetes: each container is a pod, reached by its IP."""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from kernel_image import contract
from sessions.containers.engine import Feature
from sessions.containers.engine_facts import Image, Surroundings
from sessions.containers.errors import (
    ClusterForbids,
    ClusterUnusable,
    EngineUnavailable,
    LaunchFailed,
    RuntimeNotFound,
)
from sessions.containers.image_care import Pull
from sessions.containers.kubernetes import manifest, state
from sessions.containers.kubernetes.cluster import Cluster, Refused
from sessions.containers.kubernetes.facts import ClusterFacts, Unseen, node_of, quotas_of
from sessions.containers.kubernetes.watch import PodWatch
from sessions.errors import SessionsError
from sessions.models import Container, ContainerSpec, JsonObject
from sessions.tasks import BackgroundTasks

T = TypeVar("T")

_GRACE_SEC: Final = 0
"""Without grace, cluster, quotas and nodes stop counting the pod at once."""
_OVER_QUOTA: Final = "exceeded quota"
_COUNTED_SEC: Final = 2.0
"""How long a quota may still count a pod that is gone."""
_AGAIN_SEC: Final = 0.2
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_HTTPS: Final = 443
NEEDED: Final = ("create", "get", "list", "watch", "delete")
"""Verbs on pods that the service's account needs."""


@dataclass(frozen=True)
class PodSettings:
    """The operator's settings for pods. `start_sec` is how long one may take to start."""

    pull: Pull = "missing"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    start_sec: float = 180.0
    uses_tls: bool = True


class PodEngine:
    """The pods of one namespace."""

    unsupported_features: frozenset[Feature] = frozenset(
        {"mount options", "inode limits", "process limits", "read-only names"}
    )

    def __init__(self, cluster: Cluster, registry_id: str, settings: PodSettings | None = None) -> None:
        """`registry_id` keeps apart instances of the same id in different registries."""
        self._cluster = cluster
        self._registry_id = registry_id
        self._settings = settings or PodSettings()
        self._watch = PodWatch(cluster, manifest.selector(registry_id), self._changed)
        self._owner: JsonObject | None = None
        self._is_prepared = False
        self.uses_tls = self._settings.uses_tls
        self._clearing = BackgroundTasks()
        self._removed_at = -_COUNTED_SEC

    @property
    def namespace(self) -> str:
        """Namespace of the pods."""
        return self._cluster.namespace

    @property
    def address(self) -> str:
        """URL of the cluster's API."""
        return self._cluster.address

    async def ping(self) -> None:
        try:
            await self._cluster.ping()
        except Refused as error:
            raise EngineUnavailable(error.message) from error

    async def identity(self) -> str:
        return self._cluster.identity()

    async def prepare(self) -> None:
        if self._is_prepared:
            return
        try:
            if denied := await self._missing():
                raise ClusterForbids(denied, self._cluster.namespace)
            self._owner = await self._cluster.owner()
        except Refused as error:
            raise self._forbidden(error) from error
        self._is_prepared = True

    async def _missing(self) -> list[str]:
        """Return the needed verbs on pods that this account does not have."""
        allowed = await asyncio.gather(*(self._cluster.may(verb, "pods") for verb in NEEDED))
        return [verb for verb, may in zip(NEEDED, allowed, strict=True) if not may]

    async def facts(self, runtime: str | None) -> ClusterFacts:
        """Return what the cluster reports, for the doctor. `runtime` is the RuntimeClass of the settings."""
        cluster = self._cluster
        labels = await _seen(cluster.namespace_labels())
        quotas = await _seen(cluster.quotas())
        nodes = await _seen(cluster.nodes(self._settings.node_selector))
        runtime_class = await _seen(cluster.runtime_class(runtime)) if runtime else {}
        return ClusterFacts(
            version=await cluster.version(),
            missing=tuple(await self._missing()),
            reads_events=await cluster.may("list", "events"),
            labels=labels,
            quotas=quotas if isinstance(quotas, str) else [one for each in quotas for one in quotas_of(each)],
            runtime_class=runtime_class if isinstance(runtime_class, str) else "there",
            nodes=nodes if isinstance(nodes, str) else [node_of(node) for node in nodes],
        )

    async def image(self, name: str) -> Image | None:
        """Return the name as an image. Nodes do not report labels, and only a launch tells if it exists."""
        return Image(name, None, ())

    async def pull(self, name: str, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Do nothing: nodes pull images by themselves."""

    async def launch(self, spec: ContainerSpec) -> Container:
        await self._begin()
        settings = self._settings
        user_id = secrets.choice(contract.USER_IDS)
        pod = manifest.pod(
            spec,
            self._registry_id,
            user_id,
            settings.pull,
            settings.node_selector,
            self._owner,
            uses_tls=self.uses_tls,
        )
        name: str = pod["metadata"]["name"]
        try:
            self._watch.created(await self._create(pod))
            address = await self._started(name, spec.image)
        except Refused as error:
            raise self._refusal(error, spec) from error
        except BaseException:
            await asyncio.shield(self._remove_quietly(name))
            raise
        return Container(name, name, address, {port: port for port in contract.PORTS}, user_id)

    async def _create(self, pod: JsonObject) -> JsonObject:
        """Create a pod. Try again while a quota may still count a pod that was removed just now."""
        while True:
            try:
                return await self._cluster.create_pod(pod)
            except Refused as error:
                is_counting = time.monotonic() < self._removed_at + _COUNTED_SEC
                if not (is_counting and _OVER_QUOTA in error.message):
                    raise
            await asyncio.sleep(_AGAIN_SEC)

    async def _started(self, name: str, image: str) -> str:
        """Wait until a pod's container runs, and return the pod's IP."""

        def look(pod: JsonObject | None) -> str | None:
            if pod is None:
                raise LaunchFailed("its pod was deleted before it had started")
            return state.address(pod, image)

        try:
            async with asyncio.timeout(self._settings.start_sec):
                return await self._watch.until(name, look)
        except TimeoutError:
            self._watch.pods()
            why = state.waits_for(self._watch.get(name), await self._events(name))
            raise LaunchFailed(f"not within {self._settings.start_sec:g} s: {why}") from None

    async def _events(self, name: str) -> list[JsonObject]:
        """Return a pod's events, for an error's text; none if the account may not read them."""
        with contextlib.suppress(Refused, EngineUnavailable):
            return await self._cluster.events(name)
        return []

    def _refusal(self, error: Refused, spec: ContainerSpec) -> SessionsError:
        """Return the error for a pod that the API server refused."""
        if error.status == _FORBIDDEN:
            if _OVER_QUOTA in error.message:
                return LaunchFailed(f"the namespace's quota is used up: {error.message}")
            if spec.runtime is not None and "RuntimeClass" in error.message:
                return RuntimeNotFound(spec.runtime, "kubectl get runtimeclasses")
            if "PodSecurity" in error.message:
                return LaunchFailed(
                    f"{error.message}; label the namespace pod-security.kubernetes.io/enforce=privileged: "
                    "PID 1 closes the pod's network with NET_ADMIN"
                )
        return self._forbidden(error)

    def _forbidden(self, error: Refused) -> SessionsError:
        if error.status == _FORBIDDEN and "cannot" in error.message:
            return ClusterForbids((), self._cluster.namespace, error.message)
        if error.status == _NOT_FOUND and "namespaces" in error.message:
            return ClusterUnusable(
                f"there is no namespace {self._cluster.namespace!r} (KUBERNETES_NAMESPACE)"
            )
        return LaunchFailed(error.message)

    async def remove(self, container_id: str) -> None:
        try:
            await self._cluster.delete_pod(container_id, _GRACE_SEC)
            self._removed_at = time.monotonic()
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise self._forbidden(error) from error

    async def _remove_quietly(self, name: str) -> None:
        with contextlib.suppress(SessionsError):
            await self.remove(name)

    async def limit_memory(self, container_id: str, memory_bytes: int) -> bool:
        """Return False: the limits of a pod cannot be changed."""
        return False

    @asynccontextmanager
    async def unthrottled(self, container_id: str) -> AsyncIterator[None]:
        """Do nothing: the limits of a pod cannot be changed."""
        yield

    async def surroundings(self, container_id: str) -> Surroundings:
        await self._begin()
        pods = self._watch.pods()
        machine: str = pods[container_id]["status"]["hostIP"]
        others = [pod["status"].get("podIP") for name, pod in pods.items() if name != container_id]
        return Surroundings(
            gateway=machine,
            peers=tuple(str(address) for address in others if address),
            host=machine,
            others=_api_addresses(self._cluster.address),
        )

    async def running(self, instance_id: str) -> set[str]:
        await self._begin()
        return {
            name
            for name, pod in self._watch.pods().items()
            if pod["metadata"]["labels"][contract.INSTANCE_LABEL] == instance_id and not state.is_over(pod)
        }

    async def _begin(self) -> None:
        try:
            await self._watch.begin()
        except Refused as error:
            raise self._forbidden(error) from error

    def _changed(self, pod: JsonObject) -> None:
        """Remove a pod that has ended. (Docker removes ended containers by itself.)"""
        if state.has_ended(pod):
            self._clearing.start(self._remove_quietly(pod["metadata"]["name"]))

    async def close(self) -> None:
        await self._watch.close()
        await self._clearing.wait()
        await self._cluster.close()


async def _seen(call: Awaitable[T]) -> T | Unseen:
    """Return what the API server answers, or why it does not."""
    try:
        return await call
    except Refused as error:
        return "missing" if error.status == _NOT_FOUND else "forbidden"


def _api_addresses(url: str) -> tuple[tuple[str, int], ...]:
    """Return address and port of the cluster's API; nothing if that is a loopback address."""
    parts = urlsplit(url)
    with contextlib.suppress(OSError, ValueError):
        found = str(socket.getaddrinfo(parts.hostname, None, socket.AF_INET)[0][4][0])
        if not ipaddress.ip_address(found).is_loopback:
            return ((found, parts.port or _HTTPS),)
    return ()
