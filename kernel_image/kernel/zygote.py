"""A clean process with the libraries imported and a kernel built, that forks kernels on request.

A fork costs milliseconds where importing IPython and pandas costs half a second of CPU. It stays
single-threaded, holds no secret, and is told what to do over a socket to the
supervisor, whose descriptor is the first argument:

    supervisor -> zygote   {"preload": [module, ...]}, once and first; then
                           {"kernel": key, "port_offset": int} with the descriptors stdout, stderr, ready,
                           journal, answers
                           {"command": str} for the shell, with stdout and stderr
    zygote -> supervisor   {"event": "preloaded"}, {"event": "started", "pid": int},
                           {"event": "failed", "error": str} in place of "started",
                           {"event": "exited", "pid": int, "status": int}   (wait status, see waitpid(2))

The forked child drops every privilege before it runs `kernel_image.kernel.kernel`, which writes one byte
to `ready` once it answers.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kernel_image import contract
from kernel_image.confinement import lockdown, seccomp

if TYPE_CHECKING:
    from kernel_image.kernel.kernel import KernelApp

_MESSAGE_BYTES = 1 << 20
_NICE = 19
"""Within the container only: PID 1 has to get its turn among hundreds of busy processes."""
_KERNEL_MODULES = (
    "kernel_image.kernel.kernel",
    "IPython.core.completer",
    "IPython.core.magics",
    "IPython.core.pylabtools",
    "jupyter_client.localinterfaces",
    "psutil",
)


def _preload(names: Iterable[str]) -> None:
    """Import `names`; one that fails is said on stderr and left to the user's own import."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            print(f"zygote: preloading {name} failed", file=sys.stderr)
            traceback.print_exc()


def _show_once() -> None:
    """Show a table and draw a figure: the first of each in a process costs far more than the next."""
    if "pandas" in sys.modules:
        table = sys.modules["pandas"].DataFrame({"a": [1]})
        repr(table)
        table._repr_html_()
    if "matplotlib.pyplot" in sys.modules:
        figure = sys.modules["matplotlib.figure"].Figure()
        figure.subplots().plot([0, 1])
        figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")


@contextlib.contextmanager
def _access_as_files_are_opened() -> Iterator[None]:
    """`os.access` asks for the real user, whose files these are not: libraries would avoid their folders."""
    access = os.access
    os.access = partial(access, effective_ids=True)
    try:
        yield
    finally:
        os.access = access


def _copy_font_cache() -> None:
    """Matplotlib wants a writable cache folder; the root filesystem is read-only."""
    target = Path(os.environ["MPLCONFIGDIR"])
    if Path(contract.MATPLOTLIB_CACHE).is_dir():
        shutil.copytree(contract.MATPLOTLIB_CACHE, target, dirs_exist_ok=True)


def _prepare_child(stdout: int, stderr: int, *kept: int) -> None:
    """Turn a fresh fork into the user's process: own session, own output, no privilege."""
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    os.nice(_NICE)
    lockdown.become(contract.USER_ID)
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.chdir(contract.WORKSPACE)
    os.umask(0o022)


def _run_child(app: "KernelApp", request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    status = 70
    try:
        _prepare_child(*descriptors)
        if "command" in request:
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.execv("/bin/bash", ["bash", "-c", request["command"]])
        kernel = sys.modules["kernel_image.kernel.kernel"]
        kernel.run(app, request["kernel"], request["port_offset"], *descriptors[2:])
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Zygote:
    """Serves fork requests until the supervisor is gone."""

    def __init__(self, control: socket.socket, app: "KernelApp") -> None:
        self._control = control
        self._app = app
        self._wakeup, wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)

    def _say(self, **message: object) -> None:
        self._control.send(json.dumps(message).encode())

    def _fork(self, request: bytes, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say(event="failed", error=f"no room for another process: {error.strerror}")
        else:
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run_child(self._app, json.loads(request), descriptors)
            self._say(event="started", pid=pid)
        for descriptor in descriptors:
            os.close(descriptor)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._say(event="exited", pid=pid, status=status)

    def serve(self) -> None:
        """Fork and reap until the supervisor closes its end."""
        self._say(event="preloaded")
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wakeup], [], [])
            if self._wakeup in readable:
                self._reap()
            if self._control.fileno() in readable:
                request, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 5)
                if not request:
                    return
                self._fork(request, descriptors)


def main() -> None:
    """Import what every kernel needs, then what the supervisor names; build a kernel, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    lockdown.empty_bounding_set()
    seccomp.install()
    lockdown.use_file_access_of(contract.USER_ID)
    _copy_font_cache()
    gc.disable()
    with _access_as_files_are_opened():
        _preload(_KERNEL_MODULES)
        request = control.recv(_MESSAGE_BYTES)
        if not request:
            return
        _preload(json.loads(request)["preload"])
        _show_once()
        app = sys.modules["kernel_image.kernel.kernel"].build()
    gc.collect()
    gc.freeze()
    gc.enable()
    Zygote(control, app).serve()


if __name__ == "__main__":
    main()
