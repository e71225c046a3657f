"""Chooses the uid that a container's code runs as. Pure, except for chance."""

import secrets
from collections.abc import Collection

from kernel_image import contract
from sessions.containers.errors import LaunchFailed


def choose(taken: Collection[int]) -> int:
    """Return one of `contract.USER_IDS` that is not in `taken`, at random.

    Chance keeps apart the containers of engines on one machine that do not know of each other, such as an
    engine inside a container of another engine.

    Raises:
        LaunchFailed: all of them are taken.
    """
    free = [user_id for user_id in contract.USER_IDS if user_id not in taken]
    if not free:
        ids = contract.USER_IDS
        raise LaunchFailed(
            f"other containers of this engine use all {len(ids)} uids from {ids.start} to {ids.stop - 1}; "
            f"remove some (`docker ps --all --filter label={contract.USER_LABEL}` lists them)"
        )
    return secrets.choice(free)
