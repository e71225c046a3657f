"""Runs code in a container of a kernel image, without a service."""

import os
import subprocess
from typing import Final

from kernel_image import contract
from tests.support.engine import IMAGE

USER_ID: Final = contract.USER_IDS.start


def docker(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the docker command and return its text output. Any exit status is accepted."""
    return subprocess.run(
        ["docker", *arguments],
        input=stdin,
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def run_python(code: str, *, image: str = IMAGE, warnings: str = "error") -> str:
    """Run code as the user in a container without network, where only /tmp is writable.

    `warnings` says what Python does with them; by default any is an error.
    Return the code's stdout; it must end with status 0 and an empty stderr.
    """
    done = docker(
        *("run", "--rm", "--interactive", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
        *("--user", f"{USER_ID}:{USER_ID}", "--env", "HOME=/tmp"),
        *(image, "python", "-W", warnings, "-"),
        stdin=code,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
