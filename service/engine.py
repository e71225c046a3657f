"""Finds the container engine and says, in one line, how this service stands to it."""

import logging

from service.errors import CannotRunKernels
from service.settings import Settings
from sessions.containers import DockerEngine
from sessions.deployment import KernelAddress, find_engine
from sessions.errors import EngineUnusable

log = logging.getLogger(__name__)


def open_engine(settings: Settings, registry_id: str) -> DockerEngine:
    """Connect to the engine that the settings name, or that is found.

    Raises:
        CannotRunKernels: there is none, or none that kernels could be reached on.
        EngineUnavailable: it does not answer.
    """
    given = None
    if settings.kernel_address is not None:
        dial = settings.kernel_address
        given = KernelAddress(settings.kernel_publish_address or dial, dial)
    try:
        address = find_engine(
            settings.docker_host,
            settings.docker_tls_verify or "",
            settings.docker_cert_path or "",
            settings.xdg_runtime_dir,
        )
        engine = DockerEngine(address, registry_id, given)
    except EngineUnusable as error:
        raise CannotRunKernels(str(error)) from error
    found = engine.deployment
    log.info("mode: %s, since %s; kernels are reached at %s", found.mode, found.why, found.dial)
    return engine
