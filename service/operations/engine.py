"""Finds and opens the container engine, and logs where the engine and the kernels are."""

import logging
from typing import TYPE_CHECKING, Final

from service.operations.errors import CannotRunKernels
from service.settings import Settings
from sessions.containers.docker.address import find_engine
from sessions.containers.docker.deployment import KernelAddress
from sessions.containers.docker.engine import DockerEngine
from sessions.containers.engine import Engine
from sessions.containers.errors import EngineUnusable

if TYPE_CHECKING:
    from sessions.containers.kubernetes.engine import PodEngine

log = logging.getLogger(__name__)

_USES_TLS: Final = {"auto": None, "always": True, "never": False}


async def open_engine(settings: Settings, registry_id: str) -> Engine:
    """Connect to the engine or the cluster in the settings, or else to the one that is found.

    Args:
        settings: `EXECUTOR_BACKEND` names the kind of engine.
        registry_id: distinguishes instances with the same id in different registries.

    Raises:
        CannotRunKernels: no engine was found, or the service could not reach its containers.
        EngineUnavailable: the engine does not answer.
    """
    if settings.engine.executor_backend == "docker":
        return open_docker(settings, registry_id)
    return await open_cluster(settings, registry_id)


async def open_cluster(settings: Settings, registry_id: str) -> "PodEngine":
    """Connect to the cluster in the settings, or else to the one that is found.

    Raises:
        CannotRunKernels: no cluster is configured, or a library is missing.
    """
    try:
        # Imported here because it takes a second, and needs the extra `kubernetes`.
        from sessions.containers.kubernetes.cluster import Cluster  # noqa: PLC0415
        from sessions.containers.kubernetes.engine import PodEngine, PodSettings  # noqa: PLC0415
    except ImportError as error:
        raise CannotRunKernels(
            f"EXECUTOR_BACKEND=kubernetes needs a library that is not installed ({error.name}): "
            "pip install 'code-interpreter[kubernetes]'"
        ) from error
    try:
        cluster = await Cluster.connect(settings.engine.kubeconfig, settings.engine.kubernetes_namespace)
    except EngineUnusable as error:
        raise CannotRunKernels(str(error)) from error
    log.info("mode: Kubernetes; kernels are pods of namespace %s at %s", cluster.namespace, cluster.address)
    pods = PodSettings(
        settings.containers.image_pull,
        dict(settings.engine.kubernetes_node_selector),
        settings.engine.kubernetes_start_timeout_sec,
        uses_tls=settings.engine.kernel_encryption != "never",
    )
    return PodEngine(cluster, registry_id, pods)


def open_docker(settings: Settings, registry_id: str) -> DockerEngine:
    """Connect to the Docker engine in the settings, or else to the one that is found.

    Raises:
        CannotRunKernels: no engine was found, or the service could not reach its containers.
        EngineUnavailable: the engine does not answer.
    """
    given = None
    if settings.engine.kernel_address is not None:
        dial = settings.engine.kernel_address
        given = KernelAddress(settings.engine.kernel_publish_address or dial, dial)
    try:
        address = find_engine(
            settings.engine.docker_host,
            settings.engine.docker_tls_verify or "",
            settings.engine.docker_cert_path or "",
            settings.engine.xdg_runtime_dir,
        )
        engine = DockerEngine(
            address, registry_id, given, uses_tls=_USES_TLS[settings.engine.kernel_encryption]
        )
    except EngineUnusable as error:
        raise CannotRunKernels(str(error)) from error
    found = engine.deployment
    by_tls = ", by TLS" if engine.uses_tls else ""
    reached = f"{found.dial}{by_tls}"
    log.info("mode: %s, since %s; published ports are reached at %s", found.mode, found.why, reached)
    return engine
