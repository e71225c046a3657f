"""The service's commands, with containers without limits: `python -m tests.unlimited doctor`."""

from typing import Any

from service.__main__ import main
from sessions.containers.docker import container_options
from sessions.containers.docker.engine import DockerEngine
from sessions.models import ContainerSpec
from tests.hostile import weakened

MISSING = ("the limit of processes", "the CPU quota", "the limits of tmpfs")


def _without_limits() -> None:
    whole = container_options.host_config

    def config(spec: ContainerSpec, user_id: int) -> dict[str, Any]:
        found = whole(spec, user_id)
        for name in MISSING:
            found |= weakened.SETTINGS[name](found)
        return found

    setattr(container_options, "host_config", config)  # noqa: B010
    setattr(DockerEngine, "limit_memory", weakened._keep_memory_limit)  # noqa: B010


if __name__ == "__main__":
    _without_limits()
    main()
