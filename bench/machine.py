"""Where the numbers were taken, and how busy that machine was."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Cores, model of the processor, and kernel."""
    return f"{os.cpu_count()} cores, {_model()}, Linux {platform.release()}"


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def load() -> float:
    """Processes that ran or waited to run, on average over the last minute."""
    return os.getloadavg()[0]
