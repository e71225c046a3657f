"""The commands of the service, run as an operator runs them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.process import INHERITED, ROOT


def run_command(*arguments: str | Path, storage: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ``code-interpreter-api`` with the settings of a service that uses that storage."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        env=environment | {"FILE_STORAGE_DIR": str(storage)} | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
