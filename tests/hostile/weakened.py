"""The service with containers that lack one setting: `python -m tests.hostile.weakened NAME`.

The setting is really left out of the containers. Everything else is the service as it is.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from service import server
from sessions.containers.docker import container_options, user_ids
from sessions.containers.docker.engine import DockerEngine
from sessions.models import ContainerSpec

HostConfig = dict[str, Any]

SETTINGS: dict[str, Callable[[HostConfig], HostConfig]] = {
    "the engine's filter": lambda config: {"security_opt": [*config["security_opt"], "seccomp=unconfined"]},
    "the read-only root": lambda _: {"read_only": False},
    "the limit of processes": lambda _: {"pids_limit": None},
    "the CPU quota": lambda _: {"cpu_quota": -1},
    "the resource limits": lambda _: {"ulimits": []},
    "the limits of tmpfs": lambda config: {
        "tmpfs": {
            place: ",".join(o for o in options.split(",") if not o.startswith(("size=", "nr_inodes=")))
            for place, options in config["tmpfs"].items()
        }
    },
    "one of the tmpfs": lambda config: {
        "tmpfs": {place: options for place, options in config["tmpfs"].items() if place != "/dev/shm"}
    },
    "a root without the host's folders": lambda _: {"binds": {"/usr/share": {"bind": "/mnt", "mode": "ro"}}},
    "a root without the engine's socket": lambda _: {
        "binds": {"/dev/null": {"bind": "/run/docker.sock", "mode": "rw"}}
    },
    "a /dev without the host's devices": lambda _: {"devices": ["/dev/kmsg:/dev/kmsg:rw"]},
}
"""Name of what is left out, and the changed settings of a container."""


NO_MEMORY_LIMIT = "the memory limit"
NO_UID_OF_OURS = "a uid of the range"
_UID_OF_A_PERSON = 1000


async def _keep_memory_limit(engine: DockerEngine, container_id: str, memory_bytes: int) -> bool:
    """Replace `DockerEngine.limit_memory` by a method that does nothing."""
    return True


def main(missing: str) -> None:
    """Start the service."""
    whole = container_options.host_config

    def weakened(spec: ContainerSpec, user_id: int) -> HostConfig:
        config = whole(spec, user_id)
        return config | SETTINGS[missing](config)

    if missing == NO_MEMORY_LIMIT:
        setattr(DockerEngine, "limit_memory", _keep_memory_limit)  # noqa: B010
    elif missing == NO_UID_OF_OURS:
        setattr(user_ids, "choose", lambda taken: _UID_OF_A_PERSON)  # noqa: B010
    else:
        setattr(container_options, "host_config", weakened)  # noqa: B010
    sys.exit(server.main(Namespace()))


if __name__ == "__main__":
    main(sys.argv[1])
