"""Memory and CPU time of a ready kernel, with and without preloaded libraries.

Kernels are launched as the pool launches them, but without the service. The difference between kernels with
k and k + 1 preloaded libraries is the cost of one library. The first kernel then imports that library, which
shows how long a user waits if it is not preloaded.
"""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from bench.engine import Engine
from bench.progress import say
from service.operations.engine import open_engine
from service.settings import load_settings
from service.settings.containers import ContainerSettings
from service.settings.values import MIB
from sessions.containers.sandbox import Sandbox
from sessions.models import Budget, Cell, CellResult, ContainerSpec, Limits, OutputChunk

LIBRARIES = (
    "numpy",
    "pandas",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn.linear_model",
    "seaborn",
)
_DEFAULTS = ContainerSettings.model_construct()
_LIMITS = Limits(
    memory_bytes=2048 * MIB,
    cpus=_DEFAULTS.kernel_cpus,
    pids=_DEFAULTS.pids_limit,
    workspace_bytes=_DEFAULTS.workspace_bytes,
    tmp_bytes=_DEFAULTS.tmp_bytes,
    lease_sec=_DEFAULTS.lease_sec,
    idle_cpu_sec=5,
)
_BUDGET = Budget(cpu_sec=60, memory_bytes=1024 * MIB, output_bytes=MIB, display_bytes=MIB)


@dataclass
class Preload:
    """Kernels that preload `library` and all libraries before it; none if `library` is empty."""

    library: str
    memory_bytes: list[int] = field(default_factory=list)
    """The container's memory that cannot be reclaimed."""
    cpu_seconds: list[float] = field(default_factory=list)
    """CPU time of the container until its kernel is ready."""
    ready_seconds: list[float] = field(default_factory=list)
    """Seconds from the launch until the kernel answers."""


@dataclass
class FirstImport:
    """The import of `library` in a ready kernel that has not preloaded it."""

    library: str
    after_others: list[float] = field(default_factory=list)
    """Seconds, with the libraries before it preloaded."""
    alone: list[float] = field(default_factory=list)
    """Seconds, with nothing preloaded."""


class Launcher:
    """Launches kernels one at a time and removes them."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._instance_id = f"bench-{secrets.token_hex(6)}"
        self.ready_seconds = 0.0
        """Duration of the last launch."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect to the engine for the duration of the block."""
        self._engine = await open_engine(load_settings(), "")
        async with aiohttp.ClientSession() as self._http:
            await self._engine.prepare()
            yield
        await self._engine.close()

    @asynccontextmanager
    async def kernel(self, preload: Sequence[str]) -> AsyncIterator[Sandbox]:
        """Launch a kernel, yield its sandbox when it is ready, and remove it at the end of the block."""
        spec = ContainerSpec(self._image, self._instance_id, secrets.token_hex(32), tuple(preload), _LIMITS)
        started = time.perf_counter()
        sandbox = await Sandbox.launch(self._engine, spec, self._http)
        self.ready_seconds = time.perf_counter() - started
        try:
            yield sandbox
        finally:
            await sandbox.close()
            await self._engine.remove(sandbox.container_id)


async def measure(engine: Engine, rounds: int) -> tuple[list[Preload], list[FirstImport]]:
    """Launch kernels with each number of preloaded libraries, in each round."""
    steps = [Preload(""), *(Preload(library) for library in LIBRARIES)]
    imports = [FirstImport(library) for library in LIBRARIES]
    launcher = Launcher(engine.image)
    async with launcher.open():
        for turn in range(rounds):
            say(f"preload: round {turn + 1} of {rounds}")
            for count, step in enumerate(steps):
                async with launcher.kernel(LIBRARIES[:count]) as sandbox:
                    step.ready_seconds.append(launcher.ready_seconds)
                    step.memory_bytes.append(await sandbox.memory_bytes())
                    step.cpu_seconds.append(engine.cpu_seconds(sandbox.container_id))
                    if count < len(imports):
                        seconds = await _import_seconds(sandbox, LIBRARIES[count])
                        imports[count].after_others.append(seconds)
            for first_import in imports:
                async with launcher.kernel(()) as sandbox:
                    first_import.alone.append(await _import_seconds(sandbox, first_import.library))
    return steps, imports


async def _import_seconds(sandbox: Sandbox, library: str) -> float:
    """Measure an import inside the kernel, in seconds."""
    code = (
        "import time as _time; _started = _time.perf_counter()\n"
        f"import {library}\n"
        "print(_time.perf_counter() - _started)"
    )
    cell = Cell(code, None, 60, last_line_interactive=False, final=False)
    printed = ""
    async with sandbox.runner.begin(cell, _BUDGET) as events:
        async for event in events:
            if isinstance(event, OutputChunk):
                printed += event.text
            elif isinstance(event, CellResult) and event.error is not None:
                raise RuntimeError(f"import {library}: {event.error.name}: {event.error.value}")
    return float(printed)
