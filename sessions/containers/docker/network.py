"""The bridge network of the containers. Calls block."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Any, Final

import docker
from docker.errors import APIError

from sessions.containers.docker.facts import seconds_of

NAME: Final = "code-interpreter"
"""One network for all services on an engine: engines allow few. Its containers cannot reach each other."""


def ensure_network(api: docker.APIClient) -> None:
    """Create the network if there is none, and remove all but the oldest if there are several.

    Several services that start at the same moment may each create one, on engines that do not prevent that.
    The name is ambiguous then, and no container can be attached. A network with containers is not removed.
    """
    found = _networks(api)
    if len(found) == 1:
        return
    if not found:
        options = {"com.docker.network.bridge.enable_icc": "false"}
        try:
            api.create_network(NAME, driver="bridge", check_duplicate=True, options=options)
        except APIError as error:
            made_by_another_service_just_now = error.status_code == 409
            if not made_by_another_service_just_now:
                raise
    for network in sorted(_networks(api), key=_created_at, reverse=True):
        if len(_networks(api)) > 1:
            with contextlib.suppress(APIError):
                api.remove_network(network["Id"])


def is_on_this_machine(api: docker.APIClient) -> bool:
    """Whether the network's bridge is an interface that this process has.

    This process then reaches the containers at their own addresses. The interface's name contains the id of
    the network, which no network of another engine has.
    """
    interfaces = {name for _, name in socket.if_nameindex()}
    return any(f"br-{network['Id'][:12]}" in interfaces for network in _networks(api))


def is_ambiguous(error: APIError) -> bool:
    """Whether a container was refused because several networks have the name."""
    return "ambiguous" in str(error.explanation)


def _networks(api: docker.APIClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.networks(names=[f"^{NAME}$"])
    return found


def _created_at(network: Mapping[str, Any]) -> tuple[float, str]:
    return seconds_of(network["Created"]), network["Id"]
