"""The start-up self-test on pods: the service does not start if PID 1 leaves out a part of the isolation."""

import uuid
from collections.abc import Callable

import pytest

from tests.kubernetes.conftest import Refusal
from tests.support.cluster import PodEngine

CANNOT_START = 3

REFUSED_STARTS: dict[str, tuple[tuple[str, str, str], set[str]]] = {
    "the firewall": (
        (
            "confinement/firewall.py",
            "    requests = _requests(open_ports",
            "    return\n    requests = _requests(open_ports",
        ),
        {"host", "supervisor's port"},
    ),
    "the limit of a file's size": (
        ("supervisor/container_setup.py", "        (resource.RLIMIT_FSIZE, largest_file),\n", ""),
        {"process limits"},
    ),
    "files of the machine's closed": (
        (
            "supervisor/container_setup.py",
            "            os.chmod(path, 0o600)",
            "            os.chmod(path, 0o666)",
        ),
        {"mounts"},
    ),
}
"""A piece of the kernel image's code, its replacement, and the isolation checks that fail then."""


@pytest.mark.parametrize("name", REFUSED_STARTS)
def test_service_refuses_pods_without(name: str, pods: PodEngine, refused: Callable[..., Refusal]) -> None:
    """The service exits with status 3, and a sentence for each check that fails."""
    change, checks = REFUSED_STARTS[name]
    tag = f"code-interpreter-tests:{uuid.uuid4().hex[:12]}"
    with pods.changed_image(*change, tag=tag) as image:
        refusal = refused(PYTHON_EXECUTOR_DOCKER_IMAGE=image)
    assert refusal.exit_code == CANNOT_START, refusal.log
    missing = {check for check in checks if f"{check}: " not in refusal.log}
    assert not missing, refusal.log
