"""The contract between the service and the inside of a container: ports, paths, ids, labels, names.

Standard library only: this is the one module of `kernel_image` that `sessions` imports.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

CONTRACT: Final = 5
"""Version of the contract. Raise it when an older service cannot work with a newer image, or the reverse."""
CONTRACT_LABEL: Final = "code-interpreter.contract"
"""Image label: the `CONTRACT` that the image was built with."""
DIGEST_LABEL: Final = "code-interpreter.digest"
"""Image label: the digest of `kernel_image/` that it was built from, as `scripts/image-digest` prints it."""
VERSION_LABEL: Final = "org.opencontainers.image.version"
"""Image label: the project's version that the image was built from."""

USER_IDS: Final = range(50_000, 52_048)
"""uids, and gids of the same numbers, of user code. No two containers of an engine have the same one.

Linux counts by uid: inotify instances, message queues, timers, pipe buffers. A user namespace usually has
65,536 ids. People and services of a machine usually get other ids than these. There are twice as many as a
bridge network takes containers. More would take time: an engine reads passwd and group to start one.
"""
KILLER_USER_ID: Final = 65533
"""Real uid of the supervisor's thread that kills the user's processes. No process may have it."""
TERMINALS: Final = 64
"""Most pseudo-terminals of one container. All containers of a machine share 3,072 of them (`kernel.pty`)."""
SOCKET_MIB: Final = 64
"""Most memory in the buffers of one container's TCP and UDP sockets, in MiB."""
OPEN_FILES: Final = 4096
"""Most open files of one process (RLIMIT_NOFILE)."""

WORKSPACE: Final = "/workspace"
"""Working folder of user code. Files are staged into it and collected from it."""
HOME: Final = "/home/user"
WRITABLE_FOLDERS: Final[Mapping[str, int]] = {
    WORKSPACE: 0o755,
    HOME: 0o755,
    "/tmp": 0o1777,
    "/dev/shm": 0o1777,
}
"""Folders that user code can write to, with their modes. Each is a file system of its own, in memory."""
MATPLOTLIB_CACHE: Final = "/opt/code-interpreter/matplotlib"
"""Font cache built with the image. The zygote copies it to a writable folder before it imports matplotlib."""

SUPERVISOR_PORT: Final = 8700
SHELL_PORT: Final = 8701
IOPUB_PORT: Final = 8702
PORTS: Final = (SUPERVISOR_PORT, SHELL_PORT, IOPUB_PORT)
"""TCP ports that a container publishes, and the only ones that accept a connection from outside."""
INTERNAL_PORT_OFFSET: Final = 10
"""Added to the kernel's ports when PID 1 terminates TLS on the published ones. Reachable from inside only."""

TOKEN_DIGEST_VARIABLE: Final = "CODE_INTERPRETER_TOKEN_SHA256"
"""Environment of PID 1: SHA-256, in hex, of the bearer token of the supervisor's HTTP API."""
LEASE_VARIABLE: Final = "CODE_INTERPRETER_LEASE_SEC"
"""Environment of PID 1: seconds until it exits unless the lease is renewed."""
IDLE_CPU_VARIABLE: Final = "CODE_INTERPRETER_IDLE_CPU_SEC"
"""Environment of PID 1: CPU seconds that processes of the user may take between two calls."""

USER_VARIABLE: Final = "CODE_INTERPRETER_USER"
"""Environment of PID 1: the uid of user code, one of `USER_IDS`."""
TLS_VARIABLE: Final = "CODE_INTERPRETER_TLS"
"""Environment of PID 1: `1` if all ports use TLS, because the service reaches them over a network."""
PROCESSES_VARIABLE: Final = "CODE_INTERPRETER_PROCESSES"
"""Environment of PID 1: limit of processes and threads. Set only when the engine cannot enforce it."""

INSTANCE_LABEL: Final = "code-interpreter.instance"
"""Container label: id of the service instance that owns the container."""
REGISTRY_LABEL: Final = "code-interpreter.registry"
"""Container label: id of the registry that lists it. Two instances of one id may use different ones."""
USER_LABEL: Final = "code-interpreter.user"
"""Container label: the uid of its user code."""
ROLE_LABEL: Final = "code-interpreter.role"
"""Container label; its value is `ROLE`."""
ROLE: Final = "kernel"

CELL_METADATA: Final = "code_interpreter"
"""Key in an execute_request's metadata and in an execute_reply's content, see `kernel/kernel.py`."""

FRAME_HEADER: Final = "!BI"
"""`struct` format before each frame of a cell's output: kind, payload length in bytes."""
FRAME_STDOUT: Final = 1
FRAME_STDERR: Final = 2
FRAME_EVENT: Final = 4
"""A JSON object from the kernel about the running cell, see `kernel_image.kernel.supervisor_pipes`."""
RECORD_PREFIX: Final = b'{"type": "record"'
"""First bytes of the event with which the kernel ends its cell."""
FRAME_MARK: Final = 5
"""The id of a message that the kernel published after the text of the frames before."""
FRAME_END: Final = 3
"""Last frame of a cell: a JSON object, see `kernel_image.supervisor.cell_monitor.CellMonitor.end`."""
MARK_BEGIN: Final = b"\x1e"
MARK_END: Final = b"\x1f"
"""Delimiters of a mark in the pipes of a kernel: `mark_token`, a number, a space, the id of a message or
nothing. Inside the container only: the supervisor sends frames.
"""
MOST_MARKS: Final = 20_000
"""Most messages of one cell that have a mark. Their order beyond that is the order in which they arrive."""

RESERVED_PATHS: Final = frozenset({"__main__.py"})
"""Workspace paths that a caller may not stage. The original product keeps its entry point there."""
TMPFS_INODES: Final = 32768
"""Most files and folders in each of the writable file systems."""
INODE_BYTES: Final = 1024
"""Memory that an empty file takes, in bytes, rounded up (930 were measured)."""
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 64
"""Files in folders deeper than this below the workspace are neither staged nor collected."""


def disk_bytes(workspace_bytes: int, tmp_bytes: int) -> int:
    """Return the memory, in bytes, that the writable file systems take when all of them are full.

    Args:
        workspace_bytes: size of the workspace.
        tmp_bytes: size of each of the other writable folders.
    """
    others = len(WRITABLE_FOLDERS) - 1
    return workspace_bytes + others * tmp_bytes + len(WRITABLE_FOLDERS) * TMPFS_INODES * INODE_BYTES


def user_name(user_id: int) -> str:
    """Return the name that the image's passwd and group give to one of `USER_IDS`."""
    return f"user{user_id - USER_IDS.start}"


def mark_token(kernel_key: str) -> bytes:
    """Return the token that begins every mark of the kernel with this key, and no text by accident."""
    return hashlib.sha256(kernel_key.encode()).hexdigest()[:16].encode()
