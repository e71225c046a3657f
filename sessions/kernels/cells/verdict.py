"""The exit code and the error of a cell, from the supervisor's last frame and the kernel's reply. No I/O."""

from collections.abc import Iterator
from typing import Any, Final

from kernel_image import contract, learnable
from sessions.kernels.cells.cell_end import Death
from sessions.models import Budget, CellError, JsonObject

_LONGEST_SEC: Final = 1e9
_CPU_LIMIT: Final = 152
"""Exit code for too much CPU time: what a shell reports after SIGXCPU."""
_TEXT_LIMIT: Final = 1 << 16
"""Characters of an error's name and of its value."""
_TRACEBACK_LIMIT: Final = 1 << 19
"""Characters of all lines of a traceback together."""


def of_timeout(timeout_sec: float) -> tuple[None, CellError]:
    """Return exit code and error of a cell that was stopped at its timeout."""
    return None, CellError("TimeoutExceeded", f"stopped after timeout_ms={timeout_sec * 1000:.0f}")


def of_death(death: Death, budget: Budget) -> tuple[int, CellError | None]:
    """Return exit code and error of a cell whose process ended."""
    status = death.status
    if death.out_of_memory:
        allowed = f"{budget.memory_bytes >> 20} MiB that {budget.memory_setting} allows"
        return status, CellError("MemoryLimitExceeded", f"the code needed more memory than the {allowed}")
    if status > 128:
        return status, CellError("KernelDied", f"the process was ended by signal {status - 128}")
    if status:
        return status, CellError("KernelDied", f"the process ended itself with status {status}")
    return status, None


def of_cpu_limit(budget: Budget) -> tuple[int, CellError]:
    """Return exit code and error of a cell that was interrupted, or killed, at its limit of CPU time."""
    limit = f"the code used more CPU time than {budget.cpu_setting}={budget.cpu_sec:g} s allows"
    return _CPU_LIMIT, CellError("CpuTimeLimitExceeded", limit)


def of_reply(reply: JsonObject) -> tuple[int, CellError | None]:
    """Return exit code and error of the kernel's reply. An invalid reply counts as a failure."""
    exit_code = _exit_code(reply)
    if exit_code == 0 or reply.get("status") == "ok":
        return exit_code, None
    return exit_code, CellError(
        name=_text(reply.get("ename")) or "KernelFailed",
        value=_text(reply.get("evalue")),
        traceback=tuple(_traceback_lines(reply.get("traceback"))),
    )


def kernel_seconds(reply: JsonObject) -> float | None:
    """Return how long the code ran, as the kernel reports it; None if it reports no possible duration."""
    seconds = _reply_field(reply, "wall_seconds")
    return float(seconds) if isinstance(seconds, float) and 0 <= seconds < _LONGEST_SEC else None


def imported(reply: JsonObject) -> frozenset[str]:
    """Return the modules of `learnable.MODULES` that programs have imported, as the kernel reports it."""
    names = _reply_field(reply, "imported")
    return frozenset(learnable.MODULES).intersection(
        name for name in (names if isinstance(names, list) else ()) if isinstance(name, str)
    )


def _exit_code(reply: JsonObject) -> int:
    code = _reply_field(reply, "exit_code")
    return code & 0xFF if isinstance(code, int) else 1


def _reply_field(reply: JsonObject, name: str) -> object:
    """Return a field that this project's kernel adds to the protocol's reply."""
    added: Any = reply.get(contract.CELL_METADATA)
    return added.get(name) if isinstance(added, dict) else None


def _traceback_lines(value: object) -> Iterator[str]:
    left = _TRACEBACK_LIMIT
    for line in value if isinstance(value, list) else ():
        if isinstance(line, str) and left > 0:
            yield line[:left]
            left -= len(line) + 1


def _text(value: object) -> str:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""
