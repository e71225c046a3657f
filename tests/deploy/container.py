"""The service as a container, started with the commands of the README."""

import json
import os
import re
import shlex
import subprocess
import time
import uuid
from typing import Any

import httpx

from tests.support.api import Api, Body
from tests.support.engine import IMAGE, TEST_LABEL
from tests.support.process import ROOT, free_port

SERVICE_IMAGE = os.environ.get("SERVICE_IMAGE") or "code-interpreter:latest"
PRELOADED_IMAGE = os.environ.get("PRELOADED_IMAGE") or "code-interpreter:preloaded"
READY_SECONDS = 90.0
STOP_SECONDS = 40
README_NAME = "code-interpreter"
"""Name of the service's image in the README."""
LIGHT = ("--env", "KERNEL_PRELOAD=none")
"""Without preloading, a kernel starts in a third of the time."""

_PRINT_REPORT = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/ready', timeout=30).read().decode())"
)
"""A program that reads `/ready` inside the container."""
_CAPABILITIES = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
]
_UNCONFINED = ("seccomp", "apparmor", "systempaths")

PRIVILEGED: tuple[str, ...] = (
    *(word for name in _CAPABILITIES for word in ("--cap-add", name)),
    *(word for option in _UNCONFINED for word in ("--security-opt", f"{option}=unconfined")),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs", "/run"),
)
"""Options in place of `--privileged`, which asks for every capability. A machine that builds and tests may
lack one, often CAP_SYS_RESOURCE, and then the engine refuses. These options ask for all others."""


def docker(*arguments: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the `docker` command, and return its output."""
    ended = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert ended.returncode == 0 or not check, (arguments, ended.stderr)
    return ended


def readme_command(end: str) -> list[str]:
    """Return the arguments of the README's only `docker run` command that ends with a text."""
    lines = re.findall(r"^docker run .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    (line,) = (line for line in lines if line.endswith(end))
    return shlex.split(line)[2:]


class ServiceContainer:
    """A container of the service's image."""

    def __init__(self, *arguments: str, wait: bool = True) -> None:
        """Start the container with the arguments of `docker run`, to which a name and labels are added."""
        self.name = f"deployed-{uuid.uuid4().hex[:12]}"
        self.instance_id = self.name
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.api = Api(self.base_url)
        docker(
            *("run", "--detach", "--name", self.name, "--label", f"{TEST_LABEL}=service"),
            *("--env", f"INSTANCE_ID={self.instance_id}", "--env", f"PYTHON_EXECUTOR_DOCKER_IMAGE={IMAGE}"),
            *("--env", "MAX_EXEC_TIMEOUT_MS=30000"),
            *arguments,
        )
        if wait:
            try:
                self.wait_until_ready()
            except BaseException:
                self.remove()
                raise

    @classmethod
    def as_typed(cls, end: str, *more: str, image: str, wait: bool = True) -> "ServiceContainer":
        """Start the README's command that ends with a text, in the background and on a free port.

        `more` goes before the image; it takes the place of `--privileged`, see `PRIVILEGED`.
        """
        typed = readme_command(end)
        assert typed[-1].partition(":")[0] == README_NAME and {"--rm", "-it"} <= set(typed)
        kept = [word for word in typed[:-1] if word not in ("--rm", "-it", "--privileged")]
        port = free_port()
        kept[kept.index("-p") + 1] = f"{port}:8000"
        made = cls(*kept, *more, image, wait=False)
        made.at(f"http://127.0.0.1:{port}")
        if wait:
            made.wait_until_ready_or_remove()
        return made

    @classmethod
    def running(cls, name: str) -> "ServiceContainer":
        """Return the object for a running container with a published port."""
        found = cls.__new__(cls)
        found.name = name
        found.api = Api("http://127.0.0.1")
        (binding,) = found.inspect()["NetworkSettings"]["Ports"]["8000/tcp"]
        found.at(f"http://127.0.0.1:{binding['HostPort']}")
        return found

    def at(self, url: str) -> None:
        """Set the URL of the service."""
        self.api.close()
        self.base_url = url
        self.api = Api(url)

    def wait_until_ready_or_remove(self) -> None:
        """Call `wait_until_ready`, and remove the container if that fails."""
        try:
            self.wait_until_ready()
        except BaseException:
            self.remove()
            raise

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> Body:
        """Wait until `GET /ready` succeeds, and return the report, which only the container sees."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                response = self.api.http.get("/ready")
            except httpx.TransportError:
                assert self.state["Running"], f"the container ended:\n{self.log()}"
            else:
                if response.status_code == 200:
                    body: Body = json.loads(self.run("python", "-I", "-c", _PRINT_REPORT))
                    return body
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s:\n{self.log()}")

    def log(self) -> str:
        """Return the container's log without the access log."""
        ended = docker("logs", self.name)
        return "\n".join(
            line for line in (ended.stdout + ended.stderr).splitlines() if "access_log" not in line
        )

    def inspect(self) -> dict[str, Any]:
        """Return the output of `docker inspect`."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.name).stdout)
        return found[0]

    @property
    def state(self) -> dict[str, Any]:
        """Return the container's state: whether it runs, or how it ended."""
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def run(self, *command: str) -> str:
        """Run a command with `docker exec`, and return what it printed."""
        return docker("exec", self.name, *command).stdout

    def status_of(self, pid: int = 1) -> dict[str, str]:
        """Return the fields of `/proc/PID/status` for a process in the container."""
        lines = self.run("cat", f"/proc/{pid}/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def process(self, command: str) -> int:
        """Return the id inside the container of the only process with a text in its command line."""
        code = (
            "import os, sys\n"
            "for pid in filter(str.isdecimal, os.listdir('/proc')):\n"
            "    try:\n"
            "        line = open(f'/proc/{pid}/cmdline').read().replace(chr(0), ' ')\n"
            "    except OSError:\n"
            "        continue\n"
            "    if sys.argv[1] in line and int(pid) != os.getpid(): print(pid)\n"
        )
        (pid,) = self.run("python", "-I", "-c", code, command).split()
        return int(pid)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until the container ends, and return its exit code."""
        return int(docker("wait", self.name, seconds=seconds).stdout)

    def stop(self) -> int:
        """Stop the container with SIGTERM, as `docker stop` does, and return its exit code."""
        docker("kill", "--signal", "TERM", self.name)
        return self.wait()

    def remove(self) -> None:
        """Remove the container and its volumes."""
        self.api.close()
        docker("rm", "--force", "--volumes", self.name, check=False)
