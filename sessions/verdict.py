"""How a cell ended: from the supervisor's last frame and the kernel's reply. Pure.

What stopped the cell from outside comes before what the code says of itself.
"""

from typing import Any, Final

from kernel_image import contract
from sessions.models import Budget, CellError, JsonObject
from sessions.outputs import clean_text

_TEXT_LIMIT: Final = 65536
"""Characters of an error's value, and of each line of its traceback."""


def of_timeout(timeout_sec: float) -> tuple[None, CellError]:
    """The verdict on a cell that was stopped for its time."""
    return None, CellError("TimeoutExceeded", f"stopped after timeout_ms={timeout_sec * 1000:.0f}")


def of_death(death: JsonObject, budget: Budget) -> tuple[int, CellError | None]:
    """The verdict on a cell whose process ended; `death` is the last frame's `exit`."""
    status = int(death["status"])
    if death["out_of_memory"]:
        return status, CellError("MemoryLimitExceeded", "the code needed more memory than MEMORY_LIMIT_MB")
    if death["over_cpu_limit"]:
        limit = f"the code used more CPU time than CPU_TIME_LIMIT_SEC={budget.cpu_sec:g} allows"
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
        name=_text(reply.get("ename")),
        value=_text(reply.get("evalue")),
        traceback=tuple(_text(line) for line in _list(reply.get("traceback"))),
    )


def execution_count(reply: JsonObject) -> int | None:
    """The number of the cell in its kernel."""
    count = reply.get("execution_count")
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _exit_code(reply: JsonObject) -> int:
    ours: Any = reply.get(contract.CELL_METADATA)
    code = ours.get("exit_code") if isinstance(ours, dict) else None
    return code & 0xFF if isinstance(code, int) else 1


def _list(value: object) -> list[object]:
    return value[:1000] if isinstance(value, list) else []


def _text(value: object) -> str:
    return clean_text(value[:_TEXT_LIMIT]) if isinstance(value, str) else ""
