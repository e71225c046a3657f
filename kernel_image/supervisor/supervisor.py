"""The state of PID 1: one kernel, at most one running cell, one workspace."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Final

from kernel_image import contract
from kernel_image.confinement import cgroup, socket_memory
from kernel_image.supervisor.cell_monitor import CellMonitor
from kernel_image.supervisor.idle_cpu import IdleCpu
from kernel_image.supervisor.kernel_process import KernelProcess, UserProcess
from kernel_image.supervisor.terminals import count_terminals, watch_terminals
from kernel_image.supervisor.workspace import Workspace
from kernel_image.supervisor.workspace_scan import FileReport
from kernel_image.supervisor.zygote_client import ForkFailed, ZygoteClient

_CHECK_SEC: Final = 0.1
_CPU_GRACE_SEC: Final = 1.0
"""CPU time that code may use after it was interrupted for its CPU time, in seconds."""
_COUNT_SEC: Final = 0.02
"""Short, because a fork bomb doubles within moments and each process takes memory of the container."""
_IDLE_COUNT_SEC: Final = 1.0
_SOCKET_BYTES: Final = contract.SOCKET_MIB << 20
_CANNOT_EXECUTE: Final = 126
"""A shell's exit status for a command that was found but could not be started."""


class Supervisor:
    """The container's kernel, its running cell and its workspace.

    Attributes:
        cell: the running cell, or the last one, whose frames can still be read; None before the first.
        stop: set when PID 1 has to exit.
    """

    def __init__(
        self,
        zygote: ZygoteClient,
        workspace: Workspace,
        lease_sec: float,
        idle_cpu_sec: float,
        *,
        behind_relay: bool = False,
    ) -> None:
        self.kernel = KernelProcess(
            zygote,
            self._add_output,
            self._add_mark,
            self._add_event,
            self._process_exited,
            behind_relay=behind_relay,
        )
        self.idle_cpu = IdleCpu(self.kernel, idle_cpu_sec)
        self.workspace = workspace
        self.cell: CellMonitor | None = None
        self.stop = asyncio.Event()
        self._zygote = zygote
        self._running = False
        self._command: UserProcess | None = None
        self._file_limits: dict[str, int] = {}
        self._kill_pending = False
        watch_terminals(self.kernel.killer, self._limit_terminals)
        self._lease: asyncio.TimerHandle | None = None
        self.renew_lease(lease_sec)

    def renew_lease(self, seconds: float) -> None:
        """Let PID 1 exit after these seconds, unless the lease is renewed again."""
        if self._lease is not None:
            self._lease.cancel()
        self._lease = asyncio.get_running_loop().call_later(seconds, self.stop.set)

    @property
    def busy(self) -> bool:
        """Whether a cell is running."""
        return self._running

    def begin_cell(self, limits: dict[str, Any], *, is_command: bool = False) -> CellMonitor:
        """Begin to collect a cell's output and to enforce its limits. The code itself does not start yet.

        Args:
            limits: `cell_id`, `note` and the limits of a `CellMonitor`.
            is_command: whether the cell is a shell command.
        """
        self.idle_cpu.stop()
        self.workspace.snapshot()
        # A cell without a note, such as a kernel's first, has no caller who could read the notice.
        notice = self.idle_cpu.take_notice() if limits["note"] or is_command else None
        self.cell = CellMonitor(**limits, idle_bytes=self.kernel.idle_bytes, idle_notice=notice)
        self._running = True
        asyncio.get_running_loop().call_later(_CHECK_SEC, self._check_limits, self.cell)
        return self.cell

    def start_in_kernel(self, cell: CellMonitor) -> None:
        """Tell the kernel to run the cell's code, which the kernel has received and holds back."""
        # Without a kernel there is nothing to start: its exit ends the cell.
        with contextlib.suppress(OSError):
            self.kernel.send_command({"begin": cell.cell_id})

    async def start_command(self, command: str) -> None:
        """Run a shell command as the cell that was just begun."""
        try:
            self._command = UserProcess(self._zygote, self._add_output, self._command_exited)
            await self._command.fork({"command": command})
        except ForkFailed as error:
            self._add_output(contract.FRAME_STDERR, f"bash: {error}\n".encode())
            self._command_exited(_CANNOT_EXECUTE)

    def end_cell(self) -> None:
        """End the running cell, with everything that was written so far."""
        if self.cell is not None and self._running:
            self.kernel.drain()
            self._running = False
            try:
                changes = self.workspace.changes()
            except Exception as error:
                changes = FileReport()
                changes.skip(".", f"the workspace cannot be read: {error}")
            self.cell.end(changes.as_json())
            self.idle_cpu.begin()

    async def start_kernel(self, key: str, preload: Sequence[str] = (), idle_bytes: int = 0) -> None:
        """Start a kernel in place of any other, see `KernelProcess.start`.

        The CPU time of the start, and of the old kernel, does not count as that of an idle kernel.
        """
        is_watched = self.idle_cpu.is_watching
        self.idle_cpu.stop()
        try:
            await self.kernel.start(key, preload, idle_bytes)
        finally:
            if is_watched and not self._running:
                self.idle_cpu.begin()

    async def scrub(self) -> None:
        """End the kernel, discard the last cell, and bring the container back to its first state.

        Raises:
            NotClean: the container differs from its first state.
        """
        self.cell = None
        self.idle_cpu.stop()
        self.idle_cpu.take_notice()
        self.workspace = Workspace()
        await self.kernel.scrub()

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal to the running shell command if there is one, else to the kernel."""
        if self._command is not None:
            self._command.signal(number)
        else:
            self.kernel.signal(number)

    def _add_output(self, kind: int, data: bytes) -> None:
        if self.cell is not None and self._running:
            self.cell.add_output(kind, data)

    def _add_mark(self, message_id: bytes) -> None:
        if self.cell is not None and self._running and self._command is None:
            self.cell.add_mark(message_id)

    def _add_event(self, payload: bytes) -> None:
        if self.cell is not None and self._running:
            self.cell.add_event(payload)
            # A short cell may end before the first periodic check of its memory, so check it here.
            if payload.startswith(contract.RECORD_PREFIX) and not self._kill_if_over_memory(self.cell):
                self.end_cell()

    def _command_exited(self, status: int) -> None:
        self._command = None
        self._process_exited(status)

    def _process_exited(self, status: int) -> None:
        """End the running cell, because its process has exited. A negative status is a signal."""
        if self.cell is not None and self._running:
            self.cell.measure_memory()
            self.cell.exit = {
                "status": status if status >= 0 else 128 - status,
                "out_of_memory": status == -signal.SIGKILL and self.cell.killed_for_memory,
                "over_cpu_limit": self.cell.stopped_for_cpu,
            }
            self.end_cell()

    def enforce_count_limits(self, process_limit: int) -> None:
        """Count what the engine does not limit, now and periodically. Kill all processes above a limit.

        Cgroups of version 1 do not limit the buffers of sockets. An engine that does not limit processes and
        files gives `process_limit`; otherwise it is 0.
        """
        # Dying processes are still counted. They must not cause a second kill, which would hit a new kernel.
        kill_pending, self._kill_pending = self._kill_pending, False
        for limit in self._exceeded_limits(process_limit):
            if not kill_pending:
                self._kill_for_limit(limit)
        pause = _COUNT_SEC if self._running else _IDLE_COUNT_SEC
        asyncio.get_running_loop().call_later(pause, self.enforce_count_limits, process_limit)

    def _exceeded_limits(self, process_limit: int) -> Iterator[str]:
        """Yield each limit that is exceeded.

        A folder above its limit keeps its files, so that the user can delete some. Only more files than
        at the last count exceed it again.
        """
        if (found := count_terminals()) > contract.TERMINALS:
            yield f"{contract.TERMINALS} pseudo-terminals ({found})"
        # The machine's memory is read first, because that is fast and usually enough.
        if socket_memory.machine_bytes() > _SOCKET_BYTES:
            found = socket_memory.container_bytes()
            if found > _SOCKET_BYTES:
                yield f"{contract.SOCKET_MIB} MiB in the buffers of sockets ({found >> 20})"
        if not process_limit:
            return
        if (found := cgroup.count_processes()) > process_limit:
            yield f"{process_limit} processes and threads ({found})"
        for folder in contract.WRITABLE_FOLDERS:
            found = cgroup.count_files(folder)
            if found > self._file_limits.get(folder, contract.TMPFS_INODES):
                yield f"{contract.TMPFS_INODES} files in {folder}"
            self._file_limits[folder] = max(found, contract.TMPFS_INODES)

    def _limit_terminals(self) -> None:
        """Kill the user's processes if one of them has just opened too many terminals."""
        if (found := count_terminals()) > contract.TERMINALS and not self._kill_pending:
            self._kill_for_limit(f"{contract.TERMINALS} pseudo-terminals ({found})")

    def _kill_for_limit(self, limit: str) -> None:
        self._add_output(contract.FRAME_STDERR, f"killed: more than {limit}\n".encode())
        self._kill_pending = True
        self.kernel.kill_all()

    def _kill_if_over_memory(self, cell: CellMonitor) -> bool:
        """Kill the cell's process if it holds too much memory; return whether it was killed for that."""
        if cell.measure_memory():
            cell.stopped_for_memory = True
            self.interrupt(signal.SIGKILL)
        return cell.stopped_for_memory

    def _check_limits(self, cell: CellMonitor) -> None:
        """Enforce the limits periodically: memory with SIGKILL, CPU time with SIGINT.

        Code that ignores the interrupt, and uses `_CPU_GRACE_SEC` more, is killed.
        """
        if cell is not self.cell or not self._running:
            return
        if not self._kill_if_over_memory(cell):
            over = cell.cpu_used - cell.cpu_seconds
            if over > 0 and not cell.stopped_for_cpu:
                cell.stopped_for_cpu = True
                self.interrupt()
            elif over > _CPU_GRACE_SEC:
                self.interrupt(signal.SIGKILL)
        asyncio.get_running_loop().call_later(_CHECK_SEC, self._check_limits, cell)
