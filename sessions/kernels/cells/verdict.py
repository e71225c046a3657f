"""How a cell ended: from the supervisor's last frame and the kernel's reply. Pure.

What stopped the cell from outside comes before what the code says of itself.
"""

from collections.abc import Iterator
from typing import Any, Final

from kernel_image import contract
from sessions.kernels.cells.cell_end import Death
from sessions.models import Budget, CellError, JsonObject

_LONGEST_SEC: Final = 1e9
_TEXT_LIMIT: Final = 1 << 16
"""Characters of an error's name and of its value."""
_TRACEBACK_LIMIT: Final = 1 << 19
"""Characters of all lines of a traceback together."""


def of_timeout(timeout_sec: float) -> tuple[None, CellError]:
    """The verdict on a cell that was stopped for its time."""
    return None, CellError("TimeoutExceeded", f"stopped after timeout_ms={timeout_sec * 1000:.0f}")


def of_death(death: Death, budget: Budget) -> tuple[int, CellError | None]:
    """The verdict on a cell whose process ended."""
    status = death.status
    if death.out_of_memory:
        return status, CellError("MemoryLimitExceeded", "the code needed more memory than MEMORY_LIMIT_MB")
    if death.over_cpu_limit:
        limit = f"the code used more CPU time than {budget.cpu_setting}={budget.cpu_sec:g} allows"
        return 152, CellError("CpuTimeLimitExceeded", limit)
    if status > 128:
        return status, CellError("KernelDied", f"the process was ended by signal {status - 128}")
    if status:
        return status, CellError("KernelDied", f"the process ended itself with status {status}")
    return status, None


def of_reply(reply: JsonObject) -> tuple[int, CellError | None]:
    """The verdict of the kernel; a reply that is not as agreed was forged or cut, and is a failure."""
    exit_code = _exit_code(reply)
    if exit_code == 0 or reply.get("status") == "ok":
        return exit_code, None
    return exit_code, CellError(
        name=_text(reply.get("ename")) or "KernelFailed",
        value=_text(reply.get("evalue")),
        traceback=tuple(_lines(reply.get("traceback"))),
    )


def kernel_seconds(reply: JsonObject) -> float | None:
    """How long the code ran, as the kernel says; None if it says nothing that could be true."""
    seconds = _of_ours(reply, "wall_seconds")
    return float(seconds) if isinstance(seconds, float) and 0 <= seconds < _LONGEST_SEC else None


def _exit_code(reply: JsonObject) -> int:
    code = _of_ours(reply, "exit_code")
    return code & 0xFF if isinstance(code, int) else 1


def _of_ours(reply: JsonObject, name: str) -> object:
    """What our kernel adds to the protocol's reply."""
    ours: Any = reply.get(contract.CELL_METADATA)
    return ours.get(name) if isinstance(ours, dict) else None


def _lines(value: object) -> Iterator[str]:
    left = _TRACEBACK_LIMIT
    for line in value if isinstance(value, list) else ():
        if isinstance(line, str) and left > 0:
            yield line[:left]
            left -= len(line) + 1


def _text(value: object) -> str:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""
