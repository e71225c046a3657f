"""Docker-in-Docker: runs an engine inside the container, beside the service.

This process is PID 1. It starts dockerd, loads the kernel image if there is one, and starts the service as an
ordinary user. It passes signals on to the service, reaps orphaned processes, starts the engine again if it
dies, and stops it after the service.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from deploy import embedded
from deploy.engine_api import EngineApi
from deploy.user import STORAGE_VARIABLE, USER_ID

IMAGE_VARIABLE: Final = "PYTHON_EXECUTOR_DOCKER_IMAGE"
_FOLDER: Final = Path("/run/code-interpreter")
_SOCKET: Final = _FOLDER / "docker.sock"
_LOG: Final = Path("/var/log/dockerd.log")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_LEGACY_IPTABLES: Final = "/usr/libexec/iptables-legacy"
_CAP_SYS_ADMIN: Final = 21
_ENGINE: Final = (
    "dockerd",
    f"--host=unix://{_SOCKET}",
    f"--group={USER_ID}",
    f"--exec-root={_FOLDER / 'exec'}",
    f"--pidfile={_FOLDER / 'dockerd.pid'}",
    "--log-level=warn",
    # Addresses for benchmarks (RFC 2544), which networks around this container hardly use.
    "--bip=198.18.0.1/24",
    "--default-address-pool=base=198.19.0.0/16,size=20",
)
_START_SEC: Final = 60.0
_STOP_SEC: Final = 20.0
_MAX_DEATHS: Final = 3
"""The container ends when the engine has died this often within `_DEATHS_SEC`."""
_DEATHS_SEC: Final = 120.0
_LOG_LINES: Final = 15
_FAILED: Final = 1


class _EngineFailed(Exception):
    """The engine did not start. The text says so, and ends with the last lines of its log."""


def possible() -> bool:
    """Whether this image contains an engine, and this process has the privileges to run it."""
    if shutil.which(_ENGINE[0]) is None:
        return False
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)


def run(command: list[str]) -> int:
    """Run `command` beside an engine, and return the exit code of `command`."""
    return _Nested().run(command)


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"code-interpreter: {text}\n")
    sys.stderr.flush()


class _Nested:
    def __init__(self) -> None:
        self._engine: subprocess.Popen[bytes] | None = None
        self._service: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._deaths: list[float] = []
        self._api = EngineApi(_SOCKET)

    def run(self, command: list[str]) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._pass_on)
        try:
            _delegate_cgroups()
            _choose_iptables()
            self._start_engine()
            return self._run_service(command)
        except (_EngineFailed, OSError, subprocess.CalledProcessError) as error:
            say(str(error))
            return _FAILED
        finally:
            self._stop_engine()

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        if self._service is None:
            sys.exit(128 + number)
        if self._service.returncode is None:
            self._service.send_signal(number)

    # --- the engine -------------------------------------------------------------------------------

    def _start_engine(self) -> None:
        """Start the engine and wait until it answers. Raise `_EngineFailed` if it does not."""
        began = time.monotonic()
        shutil.rmtree(_FOLDER, ignore_errors=True)
        _FOLDER.mkdir(parents=True, exist_ok=True)
        with _LOG.open("ab") as log:
            # The engine gets a session of its own: Ctrl-C must stop the service first.
            self._engine = subprocess.Popen(
                _ENGINE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while not self._api.answers():
            if self._ended() or time.monotonic() - began > _START_SEC:
                raise _EngineFailed(
                    f"the container's own Docker engine did not start (check that the container runs with "
                    f"--privileged, and that /var/lib/docker is a volume); the end of {_LOG}:\n{_log_tail()}"
                )
            time.sleep(0.05)
        say(f"the container's own Docker engine is up after {time.monotonic() - began:.1f} s")
        _load_image(self._api)

    def _stop_engine(self) -> None:
        """Stop the engine. Kill it if that takes more than `_STOP_SEC`."""
        if self._ended():
            return
        assert self._engine is not None
        self._engine.terminate()
        deadline = time.monotonic() + _STOP_SEC
        while not self._ended():
            if time.monotonic() > deadline:
                self._engine.kill()
                return
            time.sleep(0.05)

    def _revive_engine(self) -> bool:
        """Start the engine again after its death. Return False if it dies too often, or does not start."""
        now = time.monotonic()
        self._deaths = [*(death for death in self._deaths if now - death < _DEATHS_SEC), now]
        assert self._engine is not None
        ended = f"the container's own Docker engine ended with {self._engine.returncode}"
        if len(self._deaths) >= _MAX_DEATHS:
            say(f"{ended}, {_MAX_DEATHS} times in a short time; the end of {_LOG}:\n{_log_tail()}")
            return False
        say(f"{ended} and is started again")
        try:
            self._start_engine()
        except (_EngineFailed, OSError, subprocess.CalledProcessError) as error:
            say(str(error))
            return False
        return True

    # --- the service, and all other processes -----------------------------------------------------

    def _run_service(self, command: list[str]) -> int:
        environment = os.environ | {
            "DOCKER_HOST": f"unix://{_SOCKET}",
            "HOME": os.environ.get(STORAGE_VARIABLE) or "/tmp",
        }
        self._service = service = subprocess.Popen(
            command,
            user=USER_ID,
            group=USER_ID,
            extra_groups=[],
            env=environment,
            start_new_session=True,
        )
        failed = False
        while service.returncode is None:
            self._reap()
            if self._ended() and not failed and not self._stopping:
                failed = not self._revive_engine()
                if failed:
                    service.terminate()
        return _FAILED if failed else _shell_code(service.returncode)

    def _reap(self) -> None:
        """Wait until any child process ends. PID 1 also gets the orphans of containers."""
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        for process in (self._engine, self._service):
            if process is not None and process.pid == pid:
                process.returncode = code

    def _ended(self) -> bool:
        """Whether the engine has ended."""
        return self._engine is None or self._engine.poll() is not None


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _log_tail() -> str:
    return "\n".join(_LOG.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _delegate_cgroups() -> None:
    """Move all processes to a child group, because cgroup v2 limits children of empty groups only."""
    controllers = _CGROUPS / "cgroup.controllers"
    if not controllers.exists():
        return
    own = _CGROUPS / "init"
    own.mkdir(exist_ok=True)
    for pid in (_CGROUPS / "cgroup.procs").read_text().split():
        try:
            (own / "cgroup.procs").write_text(pid)
        except ProcessLookupError:
            continue
    wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
    (_CGROUPS / "cgroup.subtree_control").write_text(wanted)


def _choose_iptables() -> None:
    """Use the legacy iptables if Linux lacks what the newer one needs."""
    works = subprocess.run(["iptables", "--wait", "-nL"], capture_output=True, check=False)
    if works.returncode:
        os.environ["PATH"] = f"{_LEGACY_IPTABLES}:{os.environ['PATH']}"


def _load_image(engine: EngineApi) -> None:
    """Give the kernel image to the engine, if it is in the service's image or mounted beside it."""
    image = os.environ.get(IMAGE_VARIABLE, "")
    began = time.monotonic()
    if done := embedded.bring(engine, image):
        say(f"the embedded image {image} was {done} in {time.monotonic() - began:.1f} s")
    if engine.image(image) is not None:
        return
    for archive in sorted(Path("/").glob("kernel-image.tar*")):
        began = time.monotonic()
        engine.load(archive)
        say(f"loaded {archive} in {time.monotonic() - began:.1f} s")
    if engine.image(image) is None:
        say(
            f"the container's own Docker engine has no image {image}, so the image will be pulled; if no "
            f"registry can be reached, mount the output of `docker save {image}` at /kernel-image.tar, or "
            "run the image that ./build-preloaded.sh builds"
        )
