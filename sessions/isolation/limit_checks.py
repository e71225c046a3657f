"""Checks whether a container's limits are enforced, by exceeding each of them. A part of the doctor.

The self-test reads what the limits are; these checks try what happens beyond them. They kill the kernel.
"""

import json
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from kernel_image import contract
from sessions.containers.engine import Feature
from sessions.containers.sandbox import Sandbox
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Budget, Cell, CellResult, Limits, OutputChunk

_EXCESS: Final = 1.25
"""How much is tried, as a multiple of the limit."""
_MAX_PROCESSES: Final = 1024
"""A larger limit is not tried: so many processes take too much memory and time."""
_SPARE_PROCESSES: Final = 32
_BURN_SEC: Final = 1.0
_BURNS: Final = 4
"""Maximum number of attempts to get throttled: a busy machine may give less CPU than the limit."""
_TRY_SEC: Final = 60.0
_NO_LIMIT: Final = 1 << 50
_STEP_BYTES: Final = 16 << 20
_KILLED: Final = 128 + 9

_FILL: Final = """
import errno, json, os
found = {}
for folder, size in WANTED.items():
    path, written, end = os.path.join(folder, "filler"), 0, None
    try:
        with open(path, "wb", buffering=0) as file:
            while written < size:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        end = errno.errorcode[error.errno]
    finally:
        os.path.exists(path) and os.unlink(path)
    found[folder] = [written, end]
print(json.dumps(found))
"""
_FORK: Final = """
import errno, json, os, signal
children, end = [], None
try:
    while len(children) < WANTED:
        children.append(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
except OSError as error:
    end = errno.errorcode[error.errno]
for child in children:
    os.kill(child, signal.SIGKILL)
for child in children:
    os.waitpid(child, 0)
print(json.dumps([len(children), end]))
"""
_BURN: Final = """
import json, os, pathlib, time
def throttled():
    for place in ("cpu", "cpu,cpuacct", "."):
        stat = pathlib.Path("/sys/fs/cgroup", place, "cpu.stat")
        if stat.is_file():
            return dict(line.split() for line in stat.read_text().splitlines()).get("nr_throttled")
before, began, used = throttled(), time.monotonic(), 0.0
processes, seconds = WANTED
children = []
for _ in range(processes):
    child = os.fork()
    if child == 0:
        while time.monotonic() < began + seconds:
            pass
        os._exit(0)
    children.append(child)
for child in children:
    usage = os.wait4(child, 0)[2]
    used += usage.ru_utime + usage.ru_stime
elapsed, after = time.monotonic() - began, throttled()
times = None if None in (before, after) else int(after) - int(before)
print(json.dumps([used / elapsed, times, os.cpu_count()]))
"""
_ALLOCATE: Final = """
import time
held = []
for _ in range(WANTED):
    held.append(b"x" * (16 << 20))
    print(len(held) << 24, flush=True)
time.sleep(2)
print("done", flush=True)
"""
_CROWD: Final = """
import os, time
for _ in range(WANTED):
    os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
time.sleep(5)
"""
_CLOCK: Final = "import time; print(time.time())"


@dataclass(frozen=True)
class MemoryCheck:
    """An attempt to use more memory than a limit allows."""

    limit_bytes: int
    held_bytes: int
    """Bytes that could be allocated."""
    ended: str | None
    """Name of the error that ended the attempt; None if none did."""


@dataclass(frozen=True)
class LimitChecks:
    """Results of exceeding each limit."""

    files: dict[str, tuple[int, str | None]]
    """For each writable folder, the bytes that were written, and the error that ended it."""
    processes: tuple[int, str | None] | None
    """Number of processes that were started, and what ended it: an error's name or `killed`.

    None: the limit is too large to try.
    """
    cpus_used: float
    throttled: int | None
    """How often Linux throttled the container; None: the cgroup does not count it."""
    machine_cpus: int
    share: MemoryCheck
    """Memory of user code."""
    container: MemoryCheck
    clock_ahead_sec: float
    """Container's clock minus the service's clock."""


async def exceed_limits(
    sandbox: Sandbox, limits: Limits, share_bytes: int, unsupported: Collection[Feature] = ()
) -> LimitChecks:
    """Exceed every limit of a sandbox.

    Args:
        sandbox: launched with `limits`.
        limits: `limits.memory_bytes` is the memory of the whole container.
        share_bytes: memory of user code.
        unsupported: limits that the engine cannot set. The supervisor sets a substitute.

    Raises:
        SupervisorFailed: the container did not answer.
    """
    spaces = {contract.WORKSPACE: limits.workspace_bytes}
    spaces |= dict.fromkeys((contract.HOME, "/tmp", "/dev/shm"), limits.tmp_bytes)
    files = await _ask(sandbox, _FILL, {place: int(size * _EXCESS) for place, size in spaces.items()})
    processes = None
    if limits.pids <= _MAX_PROCESSES:
        crowd = limits.pids + _SPARE_PROCESSES
        if "process limits" in unsupported:
            processes = (crowd, await _crowd(sandbox, crowd))
        else:
            processes = tuple(await _ask(sandbox, _FORK, crowd))
    burning = (math.ceil(limits.cpus) + 1, _BURN_SEC)
    for _ in range(_BURNS):
        cpus_used, throttled, machine_cpus = await _ask(sandbox, _BURN, burning)
        if throttled:
            break
    asked_at = time.time()
    clock = await _ask(sandbox, _CLOCK, None)
    return LimitChecks(
        files={place: (written, end) for place, (written, end) in files.items()},
        processes=processes,
        cpus_used=cpus_used,
        throttled=throttled,
        machine_cpus=machine_cpus,
        clock_ahead_sec=clock - (asked_at + time.time()) / 2,
        share=await _allocate(sandbox, share_bytes, share_bytes),
        container=await _allocate(sandbox, limits.memory_bytes, _NO_LIMIT),
    )


async def _ask(sandbox: Sandbox, code: str, wanted: object) -> Any:
    """Run code that reads WANTED, and return the JSON that it prints."""
    text, result = await _run(sandbox, code, wanted, _NO_LIMIT)
    try:
        return json.loads(text)
    except ValueError:
        what = result.error or "it printed nothing"
        raise SupervisorFailed(f"a limit check ended early: {what}") from None


async def _crowd(sandbox: Sandbox, processes: int) -> str | None:
    """Start many processes at once, and return what ended them: `killed` if the supervisor killed all."""
    _, result = await _run(sandbox, _CROWD, processes, _NO_LIMIT)
    if result.kernel_alive:
        return None
    await sandbox.start_kernel()
    return "killed" if result.exit_code == _KILLED else str(result.error and result.error.name)


async def _allocate(sandbox: Sandbox, limit_bytes: int, budget_bytes: int) -> MemoryCheck:
    """Allocate more than a limit."""
    steps = math.ceil(limit_bytes * _EXCESS / _STEP_BYTES)
    text, result = await _run(sandbox, _ALLOCATE, steps, budget_bytes)
    words = text.split()
    held = max((int(word) for word in words if word.isdecimal()), default=0)
    ended = None if "done" in words and result.error is None else str(result.error and result.error.name)
    if not result.kernel_alive:
        await sandbox.start_kernel()
    return MemoryCheck(limit_bytes, held, ended)


async def _run(sandbox: Sandbox, code: str, wanted: object, memory_bytes: int) -> tuple[str, CellResult]:
    cell = Cell(
        code=f"exec({code!r}, {{'WANTED': {wanted!r}}})",
        stdin=None,
        timeout_sec=_TRY_SEC,
        last_line_interactive=False,
        final=False,
        counted=False,
    )
    budget = Budget(cpu_sec=_TRY_SEC, memory_bytes=memory_bytes, output_bytes=1 << 20, display_bytes=10_000)
    text, result = "", None
    async with sandbox.runner.begin(cell, budget) as events:
        async for event in events:
            if isinstance(event, OutputChunk) and event.stream == "stdout":
                text += event.text
            elif isinstance(event, CellResult):
                result = event
    if result is None:
        raise SupervisorFailed("a limit check did not end")
    return text, result
