"""The last frame of a cell, in which the supervisor says how the cell ended."""

import math
from dataclasses import dataclass
from typing import Any, Self

from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.plain_json import parse
from sessions.models import ChangedFile, JsonObject, SkippedFile, Stream


@dataclass(frozen=True)
class Death:
    """How the process ended: its exit status as a shell reports it, and the limit it met."""

    status: int
    out_of_memory: bool = False
    over_cpu_limit: bool = False


@dataclass(frozen=True)
class CellEnd:
    """Bytes that were written, CPU seconds, what changed in the workspace; `death` if the process ended."""

    stdout_bytes: int
    stderr_bytes: int
    cpu_sec: float
    death: Death | None
    changed: tuple[ChangedFile, ...]
    skipped: tuple[SkippedFile, ...]
    wall_sec: float | None = None
    """How long it took; None: a session's container may be older than this field."""

    def written(self, stream: Stream) -> int:
        """Bytes the code wrote there, those that were cut off included."""
        return self.stdout_bytes if stream == "stdout" else self.stderr_bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read the frame. Raises `SupervisorFailed`: it is not as agreed."""
        try:
            # Names of files may be all commas.
            end: Any = parse(payload, max_values=math.inf).value
            return cls(
                stdout_bytes=_size(end["stdout_bytes"]),
                stderr_bytes=_size(end["stderr_bytes"]),
                cpu_sec=float(end["cpu_seconds"]),
                death=None if end["exit"] is None else _death(end["exit"]),
                changed=tuple(
                    ChangedFile(_text(item["path"]), _size(item["size_bytes"])) for item in end["changed"]
                ),
                skipped=_skipped(end),
                wall_sec=_seconds(end.get("wall_seconds")),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SupervisorFailed("a cell's end that is none", quoted=f"{error!r:.200}") from error


def _death(value: JsonObject) -> Death:
    return Death(_size(value["status"]), bool(value["out_of_memory"]), bool(value["over_cpu_limit"]))


def _skipped(end: JsonObject) -> tuple[SkippedFile, ...]:
    skipped = [
        SkippedFile(_text(item["path"]), _size(item["size_bytes"]), _text(item["reason"]))
        for item in end["skipped"]
    ]
    if left_out := _size(end["left_out"]):
        skipped.append(SkippedFile("...", 0, f"{left_out} more files are not even listed"))
    return tuple(skipped)


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r:.50} is no time")
    return float(value)


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.50} is no size")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.50} is no text")
    return value
