"""What Linux says of another process: CPU time to the nanosecond, memory now and at its peak."""

import time
from pathlib import Path

_SCHEDULER_CLOCK = 2
_RESET_PEAK = "5"


class Process:
    """A running process of the same user, by its id."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # The clock that clock_getcpuclockid(3) gives for a process; Python does not wrap it.
        self._cpu_clock = (~pid << 3) | _SCHEDULER_CLOCK

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, in seconds."""
        return time.clock_gettime(self._cpu_clock)

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """The most resident memory since the start or the last `reset_peak`."""
        return self._status("VmHWM")

    def threads(self) -> int:
        """How many threads it has now."""
        return len(list((self._folder / "task").iterdir()))

    def descriptors(self) -> int:
        """How many descriptors it has open now."""
        return len(list((self._folder / "fd").iterdir()))

    def reset_peak(self) -> None:
        """Let the peak be what is resident now."""
        (self._folder / "clear_refs").write_text(_RESET_PEAK)

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self._folder.name)
