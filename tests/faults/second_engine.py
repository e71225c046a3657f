"""A second Docker engine on this machine, which tests may kill and stop."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.engine import IMAGE, Engine

UP_SECONDS = 30.0


class SecondEngine:
    """A `dockerd` with its own folders and socket, which does not change the machine's firewall."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder / 'socket'}"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes]
        # A separate process, as with system services, so that it survives a kill of the engine.
        address = folder / "containerd"
        folders = ("--root", str(folder / "containers"), "--state", str(folder / "state"))
        self._containerd = self._run("containerd", "--address", str(address), *folders)
        self._address = address

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        self._process = self._run(
            *("dockerd", "--containerd", str(self._address)),
            *("--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "exec")),
            *("--pidfile", str(self._folder / "pid"), "--host", self.url, "--bridge", _bridge()),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            *options,
        )
        deadline = time.monotonic() + UP_SECONDS
        while self.docker("version", check=False).returncode:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log_tail()
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Send SIGTERM, and wait until the engine has stopped its containers or left them running."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def log_tail(self) -> str:
        """Return the end of the engine's log."""
        return self._log.read_text()[-3000:]

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the `docker` command with this engine."""
        command = ["docker", "--host", self.url, *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def load(self, *more: str) -> None:
        """Copy the kernel image, and others, from the machine's engine."""
        with subprocess.Popen(["docker", "save", IMAGE, *more], stdout=subprocess.PIPE) as saving:
            command = ["docker", "--host", self.url, "load", "--quiet"]
            subprocess.run(command, stdin=saving.stdout, check=True, capture_output=True)
        assert saving.returncode == 0

    def derive(self, tag: str) -> None:
        """Make an image that is like the kernel image but has another id."""
        container = self.docker("create", "--network", "none", IMAGE).stdout.strip()
        self.docker("commit", container, tag)
        self.docker("rm", container)

    def engine(self) -> Engine:
        """Return a view of this engine from outside."""
        return Engine(self.url)

    def close(self) -> None:
        """End the engine and all that it has started, and remove its folders."""
        if self._process.poll() is not None:
            self.start()
        ids = self.docker("ps", "--all", "--quiet").stdout.split()
        if ids:
            self.docker("rm", "--force", *ids)
        self.docker("network", "prune", "--force")
        self.stop()
        self._containerd.terminate()
        self._containerd.wait(60)
        unmount_below(self._folder)
        shutil.rmtree(self._folder)


def unmount_below(folder: Path) -> None:
    """Unmount everything that is mounted in a folder, the innermost first."""
    while mounts := [mount for mount in _mounts() if mount.startswith(f"{folder}/")]:
        subprocess.run(["umount", "--lazy", max(mounts)], check=True)


def _mounts() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


def _bridge() -> str:
    """Return the machine's own bridge, unused here. An engine set to have no bridge would remove it."""
    return "docker0" if Path("/sys/class/net/docker0").exists() else "none"


def can_run_engines() -> None:
    """Skip where a second engine cannot be started."""
    if os.geteuid() or shutil.which("dockerd") is None:
        pytest.skip("a second engine takes root and dockerd")
