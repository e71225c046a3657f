"""One execution as the supervisor sees it: output on its way out, CPU used, how it ended.

The kernel's stdout and stderr are pipes whose other end is here, in a process that never runs user
code. So output is in order and complete also where the kernel dies, and what is over the limit is
thrown away here: a program that prints gigabytes costs the service nothing.
"""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from kernel_image import contract
from kernel_image.confinement import cgroup

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_F_SETPIPE_SZ = 1031
_GATHER_SEC = 0.005
_EVENT_BYTES = 1 << 25
_MEMORY_SLACK_BYTES = 32 << 20
"""A forked kernel gets its own copy of each page it touches; that is not the user's doing."""


class OutputPipe:
    """The supervisor's end of a pipe that a process of the user's writes to."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self._on_data = on_data
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        # Larger is faster; the host grants it to so many pipes of one user only.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._reader, _F_SETPIPE_SZ, _PIPE_BYTES)
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def _read(self) -> bool:
        """Pass on what is there; False when the pipe is empty for now or for good."""
        try:
            data = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._on_data(data)
        return True

    def drain(self) -> None:
        """Pass on all that was written before this call, a bounded amount."""
        for _ in range(2 * _PIPE_BYTES // _READ_BYTES):
            if self._reader < 0 or not self._read():
                return

    def handed_over(self) -> None:
        """Close our copy of the writing end: when the process's are gone too, the pipe ends."""
        os.close(self.writer)

    def close(self) -> None:
        if self._reader >= 0:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1


@dataclass
class Cell:
    """One execution's frames, kept until the next one begins, and its limits.

    `output_bytes` is the limit of stdout and of stderr each; `cpu_seconds` and `memory_bytes` are
    for all processes of the user together, so that children count; `idle_bytes` is what the kernel
    held before it ran any code; `note` is the service's own, for its next life.
    """

    cell_id: str
    output_bytes: int
    cpu_seconds: float
    memory_bytes: int
    note: str
    idle_bytes: int
    passed: dict[int, int] = field(
        default_factory=lambda: {contract.FRAME_STDOUT: 0, contract.FRAME_STDERR: 0}
    )
    seen: dict[int, int] = field(default_factory=lambda: {contract.FRAME_STDOUT: 0, contract.FRAME_STDERR: 0})
    exit: dict[str, object] | None = None
    stopped_for_memory: bool = False

    def __post_init__(self) -> None:
        self._frames: list[tuple[int, bytes]] = []
        self._event_bytes = 0
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._began = time.monotonic()
        self._cpu_before = self._user_cpu()
        self._kills_before = cgroup.out_of_memory_kills()

    @staticmethod
    def _user_cpu() -> float:
        """CPU seconds of the container less those of the supervisor itself."""
        return cgroup.cpu_seconds() - time.process_time()

    @property
    def cpu_used(self) -> float:
        return self._user_cpu() - self._cpu_before

    @property
    def over_cpu_limit(self) -> bool:
        return self.cpu_used > self.cpu_seconds

    @property
    def over_memory_limit(self) -> bool:
        return cgroup.process_bytes() > self.idle_bytes + self.memory_bytes + _MEMORY_SLACK_BYTES

    @property
    def killed_for_memory(self) -> bool:
        """Whether the container's limit, or ours, has been met."""
        return self.stopped_for_memory or cgroup.out_of_memory_kills() > self._kills_before

    def output(self, kind: int, data: bytes) -> None:
        self.seen[kind] += len(data)
        part = data[: self.output_bytes - self.passed[kind]]
        if part and not self._over.is_set():
            self.passed[kind] += len(part)
            self._put(kind, part)

    def event(self, payload: bytes) -> None:
        """Pass on what the kernel says of itself, a bounded amount."""
        self._event_bytes += len(payload)
        if self._event_bytes <= _EVENT_BYTES and not self._over.is_set():
            self._put(contract.FRAME_EVENT, payload)

    def _put(self, kind: int, payload: bytes) -> None:
        self._frames.append((kind, payload))
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self, result: dict[str, object]) -> None:
        """Close the stream with its last frame: `result` and what became of the output."""
        if not self._over.is_set():
            report = {
                "stdout_bytes": self.seen[contract.FRAME_STDOUT],
                "stderr_bytes": self.seen[contract.FRAME_STDERR],
                "exit": self.exit,
                "cpu_seconds": round(self.cpu_used, 3),
                "wall_seconds": round(time.monotonic() - self._began, 6),
            }
            self._put(contract.FRAME_END, json.dumps(result | report).encode())
            self._over.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """All frames, from the first to the last; what comes at about the same time in one piece."""
        sent = 0
        while True:
            while sent < len(self._frames):
                ready, sent = self._frames[sent:], len(self._frames)
                yield b"".join(
                    struct.pack(contract.FRAME_HEADER, kind, len(payload)) + payload
                    for kind, payload in _joined(ready)
                )
            if self._over.is_set():
                return
            await self._changed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SEC):
                    await self._over.wait()


def _joined(frames: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Neighbouring text becomes one frame: `print` writes its text and its newline separately."""
    for kind, group in itertools.groupby(frames, key=lambda frame: frame[0]):
        payloads = [payload for _, payload in group]
        if kind == contract.FRAME_EVENT:
            yield from ((kind, payload) for payload in payloads)
        else:
            yield kind, b"".join(payloads)
