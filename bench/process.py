"""CPU time and memory of another process."""

import time
from pathlib import Path

_SCHEDULER_CLOCK = 2
_RESET_PEAK = "5"


class Process:
    """A running process of the same user."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # The clock that clock_getcpuclockid(3) returns for a process. Python has no function for it.
        self._cpu_clock = (~pid << 3) | _SCHEDULER_CLOCK

    def cpu_seconds(self) -> float:
        """Return the CPU time of all threads so far, in seconds."""
        return time.clock_gettime(self._cpu_clock)

    def resident_bytes(self) -> int:
        """Return the current resident memory."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """Return the maximum of resident memory since the start or the last `reset_peak`."""
        return self._status("VmHWM")

    def threads(self) -> int:
        """Return the current number of threads."""
        return len(list((self._folder / "task").iterdir()))

    def descriptors(self) -> int:
        """Return the current number of open descriptors."""
        return len(list((self._folder / "fd").iterdir()))

    def reset_peak(self) -> None:
        """Set the maximum to the current resident memory."""
        (self._folder / "clear_refs").write_text(_RESET_PEAK)

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self._folder.name)
