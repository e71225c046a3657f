"""The pods of a registry as the cluster tells of them: listed once, then followed by a watch."""

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
_BREATH_SEC: Final = 0.1
"""Between two watches, also where they end as they begin."""
_GONE: Final = 410


class PodWatch:
    """Knows the pods with some labels from `begin` to `close`."""

    def __init__(self, cluster: Cluster, selector: str, on_change: Callable[[JsonObject], None]) -> None:
        """`on_change` is called with each pod that is new or has changed."""
        self._cluster = cluster
        self._selector = selector
        self._on_change = on_change
        self._pods: dict[str, JsonObject] = {}
        self._news = asyncio.Condition()
        self._beginning = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def begin(self) -> None:
        """List the pods and follow them from then on; the second time, nothing.

        Raises:
            EngineUnavailable, Refused: they could not be listed.
        """
        async with self._beginning:
            if self._following is None:
                version = await self._list()
                self._following = asyncio.create_task(self._follow(version))

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    def pods(self) -> dict[str, JsonObject]:
        """All there are, by name. Raises `EngineUnavailable`: nobody can tell just now."""
        if self._problem is not None:
            raise EngineUnavailable(self._problem)
        return self._pods

    def get(self, name: str) -> JsonObject | None:
        """The pod, as it was last told of."""
        return self._pods.get(name)

    def created(self, pod: JsonObject) -> None:
        """Take note of a pod before the watch tells of it."""
        self._pods.setdefault(pod["metadata"]["name"], pod)

    async def until(self, name: str, look: Callable[[JsonObject | None], T | None]) -> T:
        """Wait until `look` makes something of the pod, which is None once it is gone."""
        async with self._news:
            while True:
                found = look(self._pods.get(name))
                if found is not None:
                    return found
                await self._news.wait()

    async def _list(self) -> str:
        """Learn what there is; the version of that."""
        before = set(self._pods)
        found = await self._cluster.pods(self._selector)
        created_meanwhile = {name: pod for name, pod in self._pods.items() if name not in before}
        self._pods = created_meanwhile | {pod["metadata"]["name"]: pod for pod in found["items"]}
        self._problem = None
        for pod in found["items"]:
            self._on_change(pod)
        await self._tell()
        return str(found["metadata"]["resourceVersion"])

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

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
                    await asyncio.sleep(_BREATH_SEC)
                    continue
                self._problem = error.message
            except Exception as error:
                # Whatever it was, nobody knows what is missed meanwhile.
                version, self._problem = None, getattr(error, "reason", None) or repr(error)
            else:
                await asyncio.sleep(_BREATH_SEC)
                continue
            if failures == 0:
                log.warning("the watch over the kernels' pods broke and is begun again: %s", self._problem)
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
        await self._tell()
