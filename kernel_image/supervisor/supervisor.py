"""What PID 1 of a kernel container looks after: one kernel, one running cell at most, one workspace."""

import asyncio
import contextlib
import signal
from typing import Any, Final

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.cell import Cell
from kernel_image.supervisor.forks import ForkFailed, Forks
from kernel_image.supervisor.kernel_process import KernelProcess, UserProcess
from kernel_image.supervisor.workspace import Changes, Workspace

_CHECK_SEC: Final = 0.1
_COUNT_SEC: Final = 0.02
"""What forks on and on is twice as much in a moment, and each process takes of the container's memory."""
_IDLE_CHECK_SEC: Final = 1.0
_CANNOT_EXECUTE: Final = 126
"""A shell's exit status for a command it has found and could not start."""


class Supervisor:
    """State of the container: one kernel, one running cell at most, one workspace."""

    def __init__(
        self, forks: Forks, workspace: Workspace, lease_sec: float, *, behind_relay: bool = False
    ) -> None:
        self.kernel = KernelProcess(
            forks, self._output, self._event, self._kernel_exited, behind_relay=behind_relay
        )
        self.workspace = workspace
        self.cell: Cell | None = None
        """The running cell, or the last one, whose frames can still be read."""
        self.expired = asyncio.Event()
        self._forks = forks
        self._running = False
        self._command: UserProcess | None = None
        self._suffered: dict[str, int] = {}
        self._is_ending = False
        self._lease: asyncio.TimerHandle | None = None
        self.renew_lease(lease_sec)

    def renew_lease(self, seconds: float) -> None:
        if self._lease is not None:
            self._lease.cancel()
        self._lease = asyncio.get_running_loop().call_later(seconds, self.expired.set)

    @property
    def busy(self) -> bool:
        """Whether a cell is running."""
        return self._running

    def begin_cell(self, limits: dict[str, Any]) -> Cell:
        self.workspace.snapshot()
        self.cell = Cell(**limits, idle_bytes=self.kernel.idle_bytes)
        self._running = True
        asyncio.get_running_loop().call_later(_CHECK_SEC, self._check_limits, self.cell)
        return self.cell

    def let_kernel_begin(self, cell: Cell) -> None:
        """Tell the kernel, which waits for this, that the cell may run."""
        with contextlib.suppress(OSError):
            self.kernel.tell({"begin": cell.cell_id})

    async def run_command(self, command: str) -> None:
        """Let the cell that was just begun be this shell command."""
        self._command = UserProcess(self._forks, self._output, self._command_exited)
        try:
            await self._command.fork({"command": command})
        except ForkFailed as error:
            self._output(contract.FRAME_STDERR, f"bash: {error}\n".encode())
            self._command_exited(_CANNOT_EXECUTE)

    def settle(self) -> None:
        """End the running cell with everything written so far."""
        if self.cell is not None and self._running:
            self.kernel.drain()
            self._running = False
            try:
                changes = self.workspace.changes()
            except Exception as error:
                changes = Changes()
                changes.skip(".", f"the workspace can't be read: {error}")
            self.cell.end(changes.told())

    async def scrub(self) -> None:
        """Forget all that ran and end all that runs. Raises `NotClean`."""
        self.cell = None
        self.workspace = Workspace()
        await self.kernel.scrub()

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal to what runs: the shell command if there is one, else the kernel."""
        if self._command is not None:
            self._command.signal(number)
        else:
            self.kernel.signal(number)

    def _output(self, kind: int, data: bytes) -> None:
        if self.cell is not None and self._running:
            self.cell.output(kind, data)

    def _event(self, payload: bytes) -> None:
        if self.cell is not None and self._running:
            self.cell.event(payload)
            # A short cell ends before anybody has looked at its memory.
            if payload.startswith(contract.RECORD_PREFIX) and not self._stopped_for_memory(self.cell):
                self.settle()

    def _kernel_exited(self, status: int) -> None:
        self._ended(status)

    def _command_exited(self, status: int) -> None:
        self._command = None
        self._ended(status)

    def _ended(self, status: int) -> None:
        """The process that the cell is about is gone: that ends the cell."""
        if self.cell is not None and self._running:
            self.cell.exit = {
                "status": status if status >= 0 else 128 - status,
                "out_of_memory": status == -signal.SIGKILL and self.cell.killed_for_memory,
                "over_cpu_limit": status in (-signal.SIGXCPU, -signal.SIGKILL) and self.cell.over_cpu_limit,
            }
            self.settle()

    def count(self, most_processes: int) -> None:
        """From now on, end everything of the user's when there is more of it than that, or too many files.

        Files that are there already are suffered, so that they can be deleted.
        """
        # What is ending is still counted, and a new kernel is not to end with it.
        is_ending, self._is_ending = self._is_ending, False
        if (found := cgroup.processes()) > most_processes and not is_ending:
            self._end_all(f"{most_processes} processes and threads ({found})")
        for folder in cgroup.TMPFS:
            found = cgroup.files(folder)
            if found > self._suffered.get(folder, contract.TMPFS_INODES) and not is_ending:
                self._end_all(f"{contract.TMPFS_INODES} files in {folder}")
            self._suffered[folder] = max(found, contract.TMPFS_INODES)
        pause = _COUNT_SEC if self._running else _IDLE_CHECK_SEC
        asyncio.get_running_loop().call_later(pause, self.count, most_processes)

    def _end_all(self, what: str) -> None:
        self._output(contract.FRAME_STDERR, f"killed: more than {what}\n".encode())
        self._is_ending = True
        self.kernel.kill_all()

    def _stopped_for_memory(self, cell: Cell) -> bool:
        """Whether it holds too much and so is killed; its end follows."""
        if cell.over_memory_limit:
            cell.stopped_for_memory = True
            self.interrupt(signal.SIGKILL)
        return cell.stopped_for_memory

    def _check_limits(self, cell: Cell) -> None:
        """Memory: SIGKILL. CPU: SIGXCPU, as `ulimit -t` does it, then SIGKILL for who ignores it."""
        if cell is not self.cell or not self._running:
            return
        if not self._stopped_for_memory(cell) and cell.over_cpu_limit:
            first = cell.cpu_used < cell.cpu_seconds + 5 * _CHECK_SEC
            self.interrupt(signal.SIGXCPU if first else signal.SIGKILL)
        asyncio.get_running_loop().call_later(_CHECK_SEC, self._check_limits, cell)
