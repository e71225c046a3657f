"""The pods of a registry: listed once, then kept up to date by a watch."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, TypeVar

from sessions.containers.errors import EngineUnavailable
from sessions.containers.kubernetes.cluster import Cluster, Refused
from sessions.models import JsonObject

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSES_SEC: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
_MIN_PAUSE_SEC: Final = 0.1
"""Pause between two watches, even if the API server ends each at once."""
_GONE: Final = 410


class PodWatch:
    """The pods with some labels, from `begin` to `close`."""

    def __init__(self, cluster: Cluster, selector: str, on_change: Callable[[JsonObject], None]) -> None:
        """`on_change` is called with each pod that is new or has changed."""
        self._cluster = cluster
        self._selector = selector
        self._on_change = on_change
        self._pods: dict[str, JsonObject] = {}
        self._changed = asyncio.Condition()
        self._beginning = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def begin(self) -> None:
        """List the pods and start to watch them. Later calls do nothing.

        Raises:
            EngineUnavailable, Refused: the pods could not be listed.
        """
        async with self._beginning:
            if self._following is None:
                version = await self._list()
                self._following = asyncio.create_task(self._follow(version))

    async def close(self) -> None:
        """Stop watching."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    def pods(self) -> dict[str, JsonObject]:
        """Return all pods by name.

        Raises:
            EngineUnavailable: the watch is broken, so that the pods are not known.
        """
        if self._problem is not None:
            raise EngineUnavailable(self._problem)
        return self._pods

    def get(self, name: str) -> JsonObject | None:
        """Return a pod with its last known status; None if there is none."""
        return self._pods.get(name)

    def created(self, pod: JsonObject) -> None:
        """Add a pod that was created just now, before the watch reports it."""
        self._pods.setdefault(pod["metadata"]["name"], pod)

    async def until(self, name: str, look: Callable[[JsonObject | None], T | None]) -> T:
        """Return the first result of `look` that is not None.

        `look` is called with the pod after each change; with None if the pod is gone.
        """
        async with self._changed:
            while True:
                found = look(self._pods.get(name))
                if found is not None:
                    return found
                await self._changed.wait()

    async def _list(self) -> str:
        """List the pods, and return the resource version of the list."""
        before = set(self._pods)
        found = await self._cluster.pods(self._selector)
        created_meanwhile = {name: pod for name, pod in self._pods.items() if name not in before}
        self._pods = created_meanwhile | {pod["metadata"]["name"]: pod for pod in found["items"]}
        self._problem = None
        for pod in found["items"]:
            self._on_change(pod)
        await self._notify()
        return str(found["metadata"]["resourceVersion"])

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _follow(self, version: str | None) -> None:
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._list()
                async for kind, pod in self._cluster.watch_pods(self._selector, version):
                    version, failures = pod["metadata"]["resourceVersion"], 0
                    await self._take(kind, pod)
            except Refused as error:
                version = None
                if error.status == _GONE:
                    await asyncio.sleep(_MIN_PAUSE_SEC)
                    continue
                self._problem = error.message
            except Exception as error:
                # Changes may be missed until the pods are listed again.
                version, self._problem = None, getattr(error, "reason", None) or repr(error)
            else:
                await asyncio.sleep(_MIN_PAUSE_SEC)
                continue
            if failures == 0:
                log.warning(
                    "the watch of the kernels' pods failed and is started again: %s",
                    self._problem,
                )
            pause = _PAUSES_SEC[min(failures, len(_PAUSES_SEC) - 1)]
            failures += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _take(self, kind: str, pod: JsonObject) -> None:
        name = pod["metadata"].get("name")
        if kind == "DELETED":
            self._pods.pop(name, None)
        elif kind in ("ADDED", "MODIFIED"):
            self._pods[name] = pod
            self._on_change(pod)
        else:
            return
        await self._notify()
