"""Bounds the CPU time that user code takes while no call runs: processes and threads that a call left behind.

The bound is a budget that fills up again slowly, because an idle kernel takes a little CPU time as well.
Above it, each check goes one step further as long as CPU time is still used: it interrupts every process
of the user, then kills all but the kernel, then the kernel too.
"""

import asyncio
from typing import Final

from kernel_image.confinement import cgroup
from kernel_image.supervisor.kernel_process import KernelProcess

_CHECK_SEC: Final = 0.5
_REFILL: Final = 0.01
"""CPU seconds that every second adds to what is left of the budget."""
_STEP_SEC: Final = 0.25
"""CPU seconds after one step that cause the next one."""


class IdleCpu:
    """Watches the container between its calls, from the first call on."""

    def __init__(self, kernel: KernelProcess, budget_sec: float) -> None:
        self._notice: dict[str, object] | None = None
        self._kernel = kernel
        self._budget_sec = budget_sec
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_watching(self) -> bool:
        """Whether a call has run, and none runs now."""
        return self._timer is not None

    def begin(self) -> None:
        """Begin with the whole budget. Called when a call has ended."""
        self.stop()
        self._used_sec = 0.0
        self._steps = 0
        self._next_step_sec = self._budget_sec
        self._cpu_before = cgroup.user_cpu_seconds()
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SEC, self._check)

    def stop(self) -> None:
        """Stop watching. Called when a call begins."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew(self) -> None:
        """Begin with the whole budget again, if no call runs."""
        if self.is_watching:
            self.begin()

    def _check(self) -> None:
        cpu = cgroup.user_cpu_seconds()
        self._used_sec = max(0.0, self._used_sec + cpu - self._cpu_before - _REFILL * _CHECK_SEC)
        self._cpu_before = cpu
        if self._used_sec <= self._budget_sec:
            self._steps, self._next_step_sec = 0, self._budget_sec
        elif self._used_sec > self._next_step_sec:
            self._take_step()
            self._next_step_sec = self._used_sec + _STEP_SEC
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SEC, self._check)

    def _take_step(self) -> None:
        self._steps += 1
        if self._steps == 1:
            self._kernel.interrupt_all()
            self._note("interrupted")
        elif self._steps == 2 and self._kernel.kill_all_others():
            self._note("killed")
        else:
            self._kernel.kill_all()
            self._note("kernel killed")

    def _note(self, action: str) -> None:
        self._notice = {"action": action, "limit_sec": self._budget_sec}

    def take_notice(self) -> dict[str, object] | None:
        """Return what was done since the last call, for the answer to the next one; None for nothing."""
        notice, self._notice = self._notice, None
        return notice
