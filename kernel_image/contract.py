"""What the service and the inside of a container have agreed on: ports, paths, ids, labels, names.

Standard library only: this is the one module of `kernel_image` that `sessions` imports.
"""

import hashlib
from typing import Final

CONTRACT: Final = 2
"""Goes up when a service of before and an image of after, or the reverse, could not work together."""
CONTRACT_LABEL: Final = "code-interpreter.contract"
DIGEST_LABEL: Final = "code-interpreter.digest"
"""Image label: the digest of `kernel_image/` that it was built from, as `scripts/image-digest` prints it."""
VERSION_LABEL: Final = "org.opencontainers.image.version"

USER_ID: Final = 1000
"""uid and gid that the user's code runs as."""

WORKSPACE: Final = "/workspace"
HOME: Final = "/home/user"
MATPLOTLIB_CACHE: Final = "/opt/code-interpreter/matplotlib"
"""Font cache built with the image; copied to a writable place before matplotlib is imported."""

SUPERVISOR_PORT: Final = 8700
SHELL_PORT: Final = 8701
IOPUB_PORT: Final = 8702
PORTS: Final = (SUPERVISOR_PORT, SHELL_PORT, IOPUB_PORT)
"""TCP ports a container publishes, and the only ones that accept a connection."""
INNER_OFFSET: Final = 10
"""To the kernel's ports where PID 1 has the published ones, and speaks TLS there: for inside alone."""

TOKEN_DIGEST_VARIABLE: Final = "CODE_INTERPRETER_TOKEN_SHA256"
"""Environment of PID 1: SHA-256, in hex, of the bearer token of the supervisor's HTTP API."""
LEASE_VARIABLE: Final = "CODE_INTERPRETER_LEASE_SEC"
"""Environment of PID 1: seconds it lives on without a renewed lease."""

TLS_VARIABLE: Final = "CODE_INTERPRETER_TLS"
"""Environment of PID 1: `1` where the way to it is not the machine's own: all ports speak TLS."""
PROCESSES_VARIABLE: Final = "CODE_INTERPRETER_PROCESSES"
"""Environment of PID 1 where it is to hold what the engine can't: most processes and threads."""

INSTANCE_LABEL: Final = "code-interpreter.instance"
"""Container label: id of the service instance that owns the container."""
REGISTRY_LABEL: Final = "code-interpreter.registry"
"""Container label: the registry that knows it. Two instances of one name do not share it."""
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
"""What the kernel says of a cell beside its text: a JSON object, see `kernel_image.kernel.journal`."""
RECORD_PREFIX: Final = b'{"type": "record"'
"""How the event begins by which the kernel ends its cell."""
MARK_BEGIN: Final = b"\x1e"
MARK_END: Final = b"\x1f"
"""In a cell's stdout, around `mark_token` and the id of a message that was published there."""
FRAME_END: Final = 3
"""Last frame: a JSON object, see `kernel_image.supervisor.cell.Cell.end`."""

RESERVED_PATHS: Final = frozenset({"__main__.py"})
"""Workspace paths a caller may not stage: the original keeps its entry point there."""
TMPFS_INODES: Final = 32768
"""Files and folders in each of the four writable file systems."""
INODE_BYTES: Final = 1024
"""What one takes of the container's memory, empty as it may be; 930 were measured."""
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 64
"""Folders deeper than this below the workspace are neither staged nor collected."""


def disk_bytes(workspace_bytes: int, tmp_bytes: int) -> int:
    """Memory that the four writable file systems take when they are full, of content and of files."""
    return workspace_bytes + 3 * tmp_bytes + 4 * TMPFS_INODES * INODE_BYTES


def mark_token(kernel_key: str) -> bytes:
    """What a kernel's marks have in common, and no text that is not meant to."""
    return hashlib.sha256(kernel_key.encode()).hexdigest()[:16].encode()
