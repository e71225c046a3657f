# ruff: noqa: T201
# mypy: ignore-errors
"""Leaves behind everything that a program can. Prints what could not be left, as JSON."""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import pty
import random
import resource
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from multiprocessing import resource_tracker, shared_memory

FOLDERS = ("/workspace", "/tmp", os.path.expanduser("~"), "/dev/shm")
libc = ctypes.CDLL(None, use_errno=True)
refused = []


def attempt(action, *arguments):
    """Call `action`; if it fails, add the error to `refused`."""
    try:
        return action(*arguments)
    except (OSError, ValueError, RuntimeError) as error:
        refused.append(f"{getattr(action, '__name__', action)}: {error}")


def checked(result):
    """Return the result of a C function; raise OSError if it failed."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def in_daemon(work):
    """Let a grandchild in a session of its own do `work` and then wait for ever."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                work()
            finally:
                while True:
                    time.sleep(60)
        os._exit(0)
    os.wait()


# --- files ---------------------------------------------------------------------------------------
for folder in FOLDERS:
    os.makedirs(f"{folder}/left/below/.hidden", exist_ok=True)
    for name in ("left.txt", ".left", "left/below/.hidden/left", "left\nline", "left \u202e name", "l" * 255):
        pathlib.Path(folder, name).write_text("left")
    os.symlink("/etc/passwd", f"{folder}/left/link")
    os.link(f"{folder}/left.txt", f"{folder}/left/hard")
    os.mkfifo(f"{folder}/left/fifo")
    with open(f"{folder}/left/sparse", "wb") as sparse:
        sparse.truncate(50_000_000)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/left/socket")
    attempt(os.setxattr, f"{folder}/left.txt", "user.left", b"left")
    attempt(os.setxattr, folder, "user.left", b"left")
    os.chmod(f"{folder}/left.txt", 0)
    os.chmod(f"{folder}/left/below", 0)
    os.chmod(f"{folder}/left", 0)
for startup in (
    "~/.ipython/profile_default/startup/00-left.py",
    "~/.local/lib/python3.11/site-packages/left.pth",
    "~/.local/lib/python3.11/site-packages/usercustomize.py",
    "~/.config/matplotlib/matplotlibrc",
    "~/.config/pip/pip.conf",
    "~/.bashrc",
    "~/.pythonrc.py",
    "/workspace/sitecustomize.py",
    "/workspace/json.py",
    "/workspace/numpy/__init__.py",
):
    path = pathlib.Path(startup).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("raise SystemExit('left')")

# --- processes, threads, timers ------------------------------------------------------------------


def keep_writing():
    """Write files for ever."""
    while True:
        for folder in FOLDERS:
            attempt(pathlib.Path(folder, f"left-later-{time.time_ns()}").write_text, "left")
        time.sleep(0.005)


def hold_deleted_file():
    """Hold 5 MB in a deleted file, and 20 MB of memory."""
    descriptor = os.open("/tmp/left-deleted", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(5_000_000))
    os.unlink("/tmp/left-deleted")
    globals()["hoard"] = bytearray(os.urandom(1)) * 20_000_000


def listen():
    """Listen on TCP, UDP, IPv6 and an abstract Unix socket."""
    sockets = globals()["sockets"] = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM)]
    sockets += [socket.socket(socket.AF_INET6), socket.socket(socket.AF_UNIX)]
    for one, address in zip(sockets, [("", 5555), ("", 5556), ("::", 5557), "\0left"], strict=True):
        attempt(one.bind, address)
        if one.type == socket.SOCK_STREAM:
            attempt(one.listen)


def fork_on_and_on():
    """Change the process id all the time, by forking and exiting."""
    while True:
        if os.fork():
            time.sleep(0.01)
            os._exit(0)
        time.sleep(0.01)


for work in (keep_writing, hold_deleted_file, listen, fork_on_and_on):
    in_daemon(work)
in_daemon(lambda: signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5))
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.setitimer(signal.ITIMER_REAL, 500)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
terminal = pty.openpty()
lock = os.open("/tmp/left-lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)

# --- standard input, inodes that cannot be removed -----------------------------
fcntl.flock(0, fcntl.LOCK_EX)
fcntl.fcntl(0, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
for top in ("/dev", "/proc"):
    for path, folders, files in os.walk(top):
        folders[:] = [
            name for name in folders if f"{path}/{name}" not in ("/dev/shm", f"/proc/{os.getpid()}")
        ]
        hidden = [f"ns/{name}" for name in os.listdir("/proc/self/ns") if "ns" in folders]
        for name in (*folders, *files, *hidden):
            with contextlib.suppress(OSError):
                os.utime(f"{path}/{name}", follow_symlinks=False)

# --- memory that outlives its process ------------------------------------------------------------
segment = shared_memory.SharedMemory("left-shared", create=True, size=1_000_000)
resource_tracker.unregister(segment._name, "shared_memory")
segment.buf[:4] = b"left"
for key in range(1, 4):
    attempt(checked, libc.mq_open(b"/left%d" % key, os.O_CREAT | os.O_RDWR, 0o666, None))
SYS_ADD_KEY = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
attempt(checked, libc.syscall(SYS_ADD_KEY, b"user", b"left", b"left", 4, -4))

# --- the process itself --------------------------------------------------------------------------
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK, resource.RLIMIT_CPU, resource.RLIMIT_NPROC):
    soft, hard = resource.getrlimit(limit)
    attempt(resource.setrlimit, limit, (min(hard, 500) if hard > 0 else 500, hard))
json.left = warnings.left = True
sys.path.insert(0, "/workspace")
sys.setrecursionlimit(5000)
random.seed(1)
os.environ["LEFT"] = os.environ["PYTHONSTARTUP"] = "/workspace/json.py"
left = "left"
os.umask(0)
os.chdir("/tmp")
print(json.dumps(refused))
for folder in FOLDERS:
    NO_DUMP, NO_ACCESS_TIME = 0x40, 0x80
    fcntl.ioctl(os.open(folder, os.O_RDONLY), 0x40086602, struct.pack("=q", NO_DUMP | NO_ACCESS_TIME))
    os.utime(folder, ns=(4 * 10**18, 4 * 10**18))
    os.chmod(folder, 0o3 if folder != "/workspace" else 0o777)
