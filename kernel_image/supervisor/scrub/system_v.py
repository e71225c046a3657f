"""System V objects: shared memory, semaphores and message queues, and the counters of their ids.

The Linux kernel numbers the objects of a kind one after the other, also those that are gone. Nothing
shows the counter but the id of a new object, and nothing sets it back. See ipc_idr_alloc in ipc/util.c.
"""

from typing import Final

from kernel_image.confinement.libc import checked, libc

KINDS: Final = ("shm", "sem", "msg")
_IPC_PRIVATE: Final = 0
_IPC_RMID: Final = 0
_MODE: Final = 0o600
_INDICES: Final = 64
"""The lower part of an id, its index, runs from 0 to 63 while there are few objects."""
_NEXT_TURN: Final = (1 << 15) - (_INDICES - 1)
"""Difference between an id with index 0 and the one before it."""


def object_ids(kind: str) -> list[int]:
    """Return the ids of the container's objects of one of `KINDS`. See proc(5)."""
    with open(f"/proc/sysvipc/{kind}") as table:
        _, *rows = table.readlines()
    return [int(row.split()[1]) for row in rows]


def remove(kind: str, identifier: int) -> None:
    """Remove an object. Only its owner may.

    Raises:
        OSError: there is no such object, or it belongs to another user.
    """
    if kind == "sem":
        checked(libc.semctl(identifier, 0, _IPC_RMID), "semctl")
    else:
        checked(getattr(libc, f"{kind}ctl")(identifier, _IPC_RMID, None), f"{kind}ctl")


def take_id(kind: str) -> int:
    """Create an object, remove it, and return its id: the next value of the counter.

    Raises:
        OSError: no object could be created.
    """
    if kind == "msg":
        identifier = checked(libc.msgget(_IPC_PRIVATE, _MODE), "msgget")
    else:
        identifier = checked(getattr(libc, f"{kind}get")(_IPC_PRIVATE, 1, _MODE), f"{kind}get")
    remove(kind, identifier)
    return identifier


def is_next(identifier: int, previous: int) -> bool:
    """Return whether no object was created between those with the ids `previous` and `identifier`."""
    is_last_index = previous % _INDICES == _INDICES - 1
    return identifier - previous == (_NEXT_TURN if is_last_index else 1)
