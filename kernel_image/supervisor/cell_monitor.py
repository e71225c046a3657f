"""One cell as the supervisor sees it: its output, its resource use, and how it ended.

The other ends of the kernel's stdout and stderr pipes are in this process, which never runs user
code. So the output is complete and in order even if the kernel dies. Output above the limit is
dropped here, so a program that prints gigabytes costs the service nothing.
"""

import asyncio
import contextlib
import itertools
import json
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from kernel_image import contract
from kernel_image.confinement import cgroup

_BATCH_SEC = 0.005
"""How long `frames` waits for more output, so that a frame holds more than one short write."""
_EVENT_BYTES = 1 << 25
_REQUEST_BYTES = 1 << 22
"""Size of the largest request for input. The service keeps 262,144 characters of the prompts of a cell."""
_MOST_EVENTS = 2000
"""Most events before the record of the kernel: requests for input, unless user code writes others."""
_MEMORY_SLACK_BYTES = 32 << 20
"""A forked kernel copies each page that it touches. That memory does not count as the user's."""


def _byte_counts() -> dict[int, int]:
    return {contract.FRAME_STDOUT: 0, contract.FRAME_STDERR: 0}


@dataclass
class CellMonitor:
    """The frames of one cell, kept until the next cell begins, and its limits.

    Attributes:
        cell_id: the service's id of the cell.
        output_bytes: limit of stdout and of stderr each.
        cpu_seconds: limit for all processes of the user together.
        memory_bytes: limit for all processes of the user together.
        note: text that the service stores here, and reads again after it was restarted.
        idle_bytes: memory that the kernel held before it ran any user code.
        idle_notice: what `IdleCpu` did before this cell; None for nothing.
        passed: bytes of stdout and stderr that were kept.
        seen: bytes of stdout and stderr that the code has written.
        exit: how the cell's process ended; None while it lives.
        stopped_for_memory: whether the supervisor has killed the process for its memory.
        stopped_for_cpu: whether the supervisor has interrupted the process for its CPU time.
        memory_used: most memory that the user's processes held, in bytes, beyond `idle_bytes`.
    """

    cell_id: str
    output_bytes: int
    cpu_seconds: float
    memory_bytes: int
    note: str
    idle_bytes: int
    idle_notice: dict[str, object] | None = None
    passed: dict[int, int] = field(default_factory=_byte_counts)
    seen: dict[int, int] = field(default_factory=_byte_counts)
    exit: dict[str, object] | None = None
    stopped_for_memory: bool = False
    stopped_for_cpu: bool = False
    memory_used: int = 0

    def __post_init__(self) -> None:
        self._frames: list[tuple[int, bytes]] = []
        self._events = 0
        self._event_bytes = 0
        self._marks = 0
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._began = time.monotonic()
        self._cpu_before = cgroup.user_cpu_seconds()
        self._kills_before = cgroup.out_of_memory_kills()

    @property
    def cpu_used(self) -> float:
        return cgroup.user_cpu_seconds() - self._cpu_before

    def measure_memory(self) -> bool:
        """Measure the memory of the user's processes; return whether it is over the limit."""
        used = cgroup.process_bytes() - self.idle_bytes
        self.memory_used = max(self.memory_used, used)
        return used > self.memory_bytes + _MEMORY_SLACK_BYTES

    @property
    def killed_for_memory(self) -> bool:
        """Whether a process was killed for its memory, by the supervisor or by the Linux kernel."""
        return self.stopped_for_memory or cgroup.out_of_memory_kills() > self._kills_before

    def add_output(self, kind: int, data: bytes) -> None:
        """Keep text of stdout or stderr, up to the limit. `kind` is the type of its frame."""
        self.seen[kind] += len(data)
        part = data[: self.output_bytes - self.passed[kind]]
        if part and not self._ended.is_set():
            self.passed[kind] += len(part)
            self._add_frame(kind, part)

    def add_mark(self, message_id: bytes) -> None:
        """Keep the place of a message in the text, up to a number of them."""
        self._marks += 1
        if self._marks <= contract.MOST_MARKS and not self._ended.is_set():
            self._add_frame(contract.FRAME_MARK, message_id)

    def add_event(self, payload: bytes) -> None:
        """Keep an event of the kernel, up to a number and a total size. The record may be the largest."""
        self._events += 1
        if not payload.startswith(contract.RECORD_PREFIX) and (
            self._events > _MOST_EVENTS or len(payload) > _REQUEST_BYTES
        ):
            return
        if self._event_bytes + len(payload) <= _EVENT_BYTES and not self._ended.is_set():
            self._event_bytes += len(payload)
            self._add_frame(contract.FRAME_EVENT, payload)

    def _add_frame(self, kind: int, payload: bytes) -> None:
        self._frames.append((kind, payload))
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self, changes: dict[str, object]) -> None:
        """Add the last frame: the changed files, and the facts about output, exit and resource use."""
        if not self._ended.is_set():
            report = {
                "stdout_bytes": self.seen[contract.FRAME_STDOUT],
                "stderr_bytes": self.seen[contract.FRAME_STDERR],
                "exit": self.exit,
                "memory_bytes": self.memory_used,
                "over_cpu_limit": self.stopped_for_cpu,
                "cpu_seconds": round(self.cpu_used, 3),
                "wall_seconds": round(time.monotonic() - self._began, 6),
                "idle": self.idle_notice,
            }
            self._add_frame(contract.FRAME_END, json.dumps(changes | report).encode())
            self._ended.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield all frames, encoded, from the first to the last. Frames of about the same time are joined."""
        sent = 0
        while True:
            while sent < len(self._frames):
                ready, sent = self._frames[sent:], len(self._frames)
                yield b"".join(
                    struct.pack(contract.FRAME_HEADER, kind, len(payload)) + payload
                    for kind, payload in _merge_text(ready)
                )
            if self._ended.is_set():
                return
            await self._changed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BATCH_SEC):
                    await self._ended.wait()


def _merge_text(frames: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Merge neighbouring text frames into one: `print` writes its text and its newline separately."""
    for kind, group in itertools.groupby(frames, key=lambda frame: frame[0]):
        payloads = [payload for _, payload in group]
        if kind in (contract.FRAME_EVENT, contract.FRAME_MARK):
            yield from ((kind, payload) for payload in payloads)
        else:
            yield kind, b"".join(payloads)
