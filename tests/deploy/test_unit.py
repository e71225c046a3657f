"""The systemd unit in docs/."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.process import ROOT

UNIT = ROOT / "docs" / "code-interpreter.service"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing, if the program is at the unit's path."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    program = tmp_path / "code-interpreter-api"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace("/opt/code-interpreter/.venv/bin/code-interpreter-api", str(program))
    )
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
