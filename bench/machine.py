"""The machine of the measurements, and how busy it was."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the number of cores, the processor's model, and the version of Linux."""
    return f"{os.cpu_count()} cores, {_model()}, Linux {platform.release()}"


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]
