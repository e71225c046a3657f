"""The last frame of a cell, in which the supervisor reports how the cell ended."""

import math
from dataclasses import dataclass
from typing import Any, Self, get_args

from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.plain_json import parse
from sessions.models import ChangedFile, IdleAction, IdleStop, JsonObject, SkippedFile, Stream


@dataclass(frozen=True)
class Death:
    """The end of the cell's process: its exit status as a shell reports it, and whether memory ended it."""

    status: int
    out_of_memory: bool = False


@dataclass(frozen=True)
class CellEnd:
    """The end of a cell, as the supervisor measured it.

    Attributes:
        stdout_bytes: bytes that the code wrote to stdout, including those that were cut off.
        stderr_bytes: the same for stderr.
        cpu_sec: CPU time of the cell.
        death: set if the process ended.
        changed: files in the workspace that are new or changed.
        skipped: files that are not returned.
        wall_sec: duration of the cell; None from containers that are older than this field.
        memory_bytes: most memory that the cell held, see `Usage`.
        over_cpu_limit: whether the cell was interrupted, or killed, at its limit of CPU time.
        idle_stop: set if code that an earlier call left behind was stopped before this cell.
    """

    stdout_bytes: int
    stderr_bytes: int
    cpu_sec: float
    death: Death | None
    changed: tuple[ChangedFile, ...]
    skipped: tuple[SkippedFile, ...]
    wall_sec: float | None = None
    memory_bytes: int = 0
    over_cpu_limit: bool = False
    idle_stop: IdleStop | None = None

    def written(self, stream: Stream) -> int:
        """Return the bytes that the code wrote to a stream, including those that were cut off."""
        return self.stdout_bytes if stream == "stdout" else self.stderr_bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Parse the payload of the frame. Raises `SupervisorFailed` if it is invalid."""
        try:
            # File names may consist of commas, which count as values.
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
                # Containers that are older than these fields go on until their sessions end.
                memory_bytes=_size(end.get("memory_bytes", 0)),
                over_cpu_limit=bool(end.get("over_cpu_limit")),
                idle_stop=_idle_stop(end.get("idle")),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SupervisorFailed("it sent an invalid end of a cell", quoted=f"{error!r:.200}") from error


def _death(value: JsonObject) -> Death:
    return Death(_size(value["status"]), bool(value["out_of_memory"]))


def _idle_stop(value: Any) -> IdleStop | None:
    if value is None:
        return None
    limit_sec = _seconds(value["limit_sec"])
    if limit_sec is None or value["action"] not in get_args(IdleAction):
        raise ValueError(f"{value!r:.50} is not a notice")
    return IdleStop(value["action"], limit_sec)


def _skipped(end: JsonObject) -> tuple[SkippedFile, ...]:
    skipped = [
        SkippedFile(_text(item["path"]), _size(item["size_bytes"]), _text(item["reason"]))
        for item in end["skipped"]
    ]
    if left_out := _size(end["left_out"]):
        skipped.append(SkippedFile("...", 0, f"{left_out} more files are not listed"))
    return tuple(skipped)


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r:.50} is not a duration")
    return float(value)


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r:.50} is not a size")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.50} is not a text")
    return value
