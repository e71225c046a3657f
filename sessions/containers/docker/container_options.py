"""The options with which a container is created: limits, mounts, privileges, environment, labels."""

import hashlib
from typing import Any, Final

import docker

from kernel_image import contract
from sessions.containers.docker.network import NAME as NETWORK
from sessions.models import ContainerSpec

_CAPABILITIES: Final = ["NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL"]
"""PID 1 gives up NET_ADMIN once the network is closed; user code has no capability."""
_NAME_PREFIX: Final = "code-interpreter-user-"
_SYSCTLS: Final = {"net.ipv4.tcp_max_tw_buckets": "0"}
"""No closed connection stays in TIME_WAIT, where it would keep its port from the container's next program."""
_OPEN_FILES: Final = 4096
_CPU_PERIOD_USEC: Final = 100_000


def host_config(spec: ContainerSpec, user_id: int) -> dict[str, Any]:
    """Return the host configuration of a container whose code runs as `user_id`.

    What user code must not have is taken away here, or by PID 1.
    """
    limits = spec.limits
    # More than any tmpfs holds, so that a write to a full one fails with ENOSPC.
    largest_file = limits.workspace_bytes + limits.tmp_bytes
    return {
        "network_mode": NETWORK,
        "auto_remove": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": _CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "tmpfs": {
            contract.WORKSPACE: _tmpfs(limits.workspace_bytes, "0755", user_id),
            contract.HOME: _tmpfs(limits.tmp_bytes, "0755", user_id),
            "/tmp": _tmpfs(limits.tmp_bytes, "1777", user_id),
            "/dev/shm": _tmpfs(limits.tmp_bytes, "1777", user_id),
        },
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "pids_limit": limits.pids,
        "cpu_period": _CPU_PERIOD_USEC,
        "cpu_quota": int(limits.cpus * _CPU_PERIOD_USEC),
        "ulimits": [
            docker.types.Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
            docker.types.Ulimit(name="core", soft=0, hard=0),
            docker.types.Ulimit(name="fsize", soft=largest_file, hard=largest_file),
        ],
        "ipc_mode": "private",
        "sysctls": _SYSCTLS,
        "log_config": docker.types.LogConfig(type="none"),
        "runtime": spec.runtime,
    }


def _tmpfs(size_bytes: int, mode: str, user_id: int) -> str:
    owner = f"uid={user_id},gid={user_id}"
    return f"rw,nosuid,nodev,exec,size={size_bytes},nr_inodes={contract.TMPFS_INODES},mode={mode},{owner}"


def environment(spec: ContainerSpec, user_id: int, *, uses_tls: bool) -> dict[str, str]:
    """Return the environment that PID 1 reads."""
    return {
        contract.TOKEN_DIGEST_VARIABLE: hashlib.sha256(spec.token.encode()).hexdigest(),
        contract.LEASE_VARIABLE: str(spec.limits.lease_sec),
        contract.IDLE_CPU_VARIABLE: str(spec.limits.idle_cpu_sec),
        contract.USER_VARIABLE: str(user_id),
        contract.TLS_VARIABLE: str(int(uses_tls)),
    }


def name(user_id: int) -> str:
    """Return the name of the container of that uid. The engine refuses a second one, to all services."""
    return f"{_NAME_PREFIX}{user_id}"


def labels(instance_id: str, registry_id: str, user_id: int) -> dict[str, str]:
    """Return the labels by which services find their containers, and the uids that are in use."""
    return {
        contract.USER_LABEL: str(user_id),
        contract.INSTANCE_LABEL: instance_id,
        contract.REGISTRY_LABEL: registry_id,
        contract.ROLE_LABEL: contract.ROLE,
    }
