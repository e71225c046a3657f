"""The zygote: a clean process with the libraries imported and a kernel built, that forks kernels on request.

A fork costs milliseconds, but importing IPython and pandas costs half a second of CPU. The zygote is
single-threaded and holds no secret. Its arguments are the descriptor of a socket to the supervisor, and the
uid of the kernels. Over the socket it takes requests:

    supervisor -> zygote   {"preload": [module, ...]}, once and first; then any number of messages with the
                           descriptor of a file that has the request, and with further descriptors:
                           {"kernel": key, "port_offset": int} with stdout, stderr, ready, events, commands
                           {"command": str} for the shell, with stdout, stderr
    zygote -> supervisor   {"event": "preloaded", "failed": [module, ...]}, {"event": "started", "pid": int},
                           {"event": "failed", "error": str} in place of "started",
                           {"event": "exited", "pid": int, "status": int}   (wait status, see waitpid(2))

The forked child drops every privilege before it calls `kernel_image.kernel.app.run`, which writes one
byte to `ready` when the kernel listens.
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
from kernel_image.confinement import privileges, seccomp

if TYPE_CHECKING:
    from kernel_image.kernel.app import KernelApp

_MESSAGE_BYTES = 1 << 20
_ARGUMENT_BYTES = 128 << 10
"""Linux refuses an argument of this size or more (MAX_ARG_STRLEN, with the NUL at its end)."""
_READ_SCRIPT = 'IFS= read -rd "" -u {file}; exec {file}<&-; eval "unset REPLY; $REPLY"'
"""Runs the script in an open file as `bash -c` would, with the same `$0`, stdin and line numbers."""
_NICE = 19
"""Lowest priority, so that PID 1 gets CPU time among hundreds of busy processes of the user."""
_KERNEL_APP = "kernel_image.kernel.app"
_KERNEL_MODULES = (
    _KERNEL_APP,
    "IPython.core.completer",
    "IPython.core.magics",
    "IPython.core.pylabtools",
    "jupyter_client.localinterfaces",
    "psutil",
)


def _preload(names: Iterable[str]) -> list[str]:
    """Import modules, and return those that fail: user code gets the exception when it imports one."""
    failed = []
    # pandas imports pyarrow if it can, which starts a thread: no kernel may be forked then.
    sys.modules["pyarrow"] = None  # type: ignore[assignment]
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            print(f"zygote: preloading {name} failed", file=sys.stderr)
            traceback.print_exc()
            failed.append(name)
    del sys.modules["pyarrow"]
    return failed


def _warm_up() -> None:
    """Format a table and draw a figure: the first of each in a process costs far more than later ones."""
    if "pandas" in sys.modules:
        table = sys.modules["pandas"].DataFrame({"a": [1]})
        repr(table)
        table._repr_html_()
    if "matplotlib.pyplot" in sys.modules:
        figure = sys.modules["matplotlib.figure"].Figure()
        figure.subplots().plot([0, 1])
        figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")


@contextlib.contextmanager
def _access_with_effective_ids() -> Iterator[None]:
    """Make `os.access` check the ids that files are opened with.

    By default it checks the real user, root, who has no rights here. Libraries would avoid their folders.
    """
    access = os.access
    os.access = partial(access, effective_ids=True)
    try:
        yield
    finally:
        os.access = access


def _copy_font_cache() -> None:
    """Copy matplotlib's font cache to a writable folder: matplotlib needs one, and the root is read-only."""
    target = Path(os.environ["MPLCONFIGDIR"])
    if Path(contract.MATPLOTLIB_CACHE).is_dir():
        shutil.copytree(contract.MATPLOTLIB_CACHE, target, dirs_exist_ok=True)


def _prepare_child(user_id: int, stdout: int, stderr: int, *kept: int) -> None:
    """Turn a new fork into a process of the user `user_id`, with its own session and output and no privilege.

    Closes all other descriptors but `kept`. Opens its own standard input: with the zygote's, it could leave
    flags, an owner for signals and a lock to later kernels.
    """
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    os.nice(_NICE)
    privileges.become_user(user_id)
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.chdir(contract.WORKSPACE)
    os.umask(0o022)


def _exec_shell(command: str) -> NoReturn:
    """Become the shell that runs `command`. Raises `OSError` if there is no room for it."""
    script = command.encode()
    if len(script) >= _ARGUMENT_BYTES:
        file = os.memfd_create("script", 0)  # it stays open for the shell
        with open(file, "wb", closefd=False) as writer:
            writer.write(script)
        os.lseek(file, 0, os.SEEK_SET)
        script = _READ_SCRIPT.format(file=file).encode()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.execv("/bin/bash", [b"bash", b"-c", script])


def _run_child(app: "KernelApp", user_id: int, request_file: int, *descriptors: int) -> NoReturn:
    status = 70
    try:
        request: dict[str, Any] = json.loads(os.pread(request_file, os.fstat(request_file).st_size, 0))
        _prepare_child(user_id, *descriptors)
        if "command" in request:
            _exec_shell(request["command"])
        sys.modules[_KERNEL_APP].run(app, request["kernel"], request["port_offset"], *descriptors[2:])
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Zygote:
    """Serves fork requests until the supervisor exits."""

    def __init__(self, control: socket.socket, app: "KernelApp", user_id: int) -> None:
        self._control = control
        self._app = app
        self._user_id = user_id
        self._wakeup, wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)

    def _send(self, **message: object) -> None:
        self._control.send(json.dumps(message).encode())

    def _fork(self, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._send(event="failed", error=f"no room for another process: {error.strerror}")
        else:
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run_child(self._app, self._user_id, *descriptors)
            self._send(event="started", pid=pid)
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
            self._send(event="exited", pid=pid, status=status)

    def serve(self, failed: list[str]) -> None:
        """Fork and reap children until the supervisor closes its end of the socket.

        Args:
            failed: modules that were to be preloaded and could not be imported.
        """
        self._send(event="preloaded", failed=failed)
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wakeup], [], [])
            if self._wakeup in readable:
                self._reap()
            if self._control.fileno() in readable:
                message, descriptors, flags, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 6)
                if not message:
                    return
                if flags & socket.MSG_CTRUNC:
                    self._send(event="failed", error="no room for another open file")
                    for descriptor in descriptors:
                        os.close(descriptor)
                else:
                    self._fork(descriptors)


def main() -> None:
    """Import what every kernel needs and what the supervisor names, build a kernel, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    user_id = int(sys.argv[2])
    privileges.empty_bounding_set()
    seccomp.install()
    privileges.use_file_access_of(user_id)
    _copy_font_cache()
    gc.disable()
    with _access_with_effective_ids():
        _preload(_KERNEL_MODULES)
        request = control.recv(_MESSAGE_BYTES)
        if not request:
            return
        failed = _preload(json.loads(request)["preload"])
        _warm_up()
        app = sys.modules[_KERNEL_APP].build()
    gc.collect()
    gc.freeze()
    gc.enable()
    Zygote(control, app, user_id).serve(failed)


if __name__ == "__main__":
    main()
