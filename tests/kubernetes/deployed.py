"""Settings of deployed services, and calls that wait for a replica."""

import re
import subprocess
import time
from collections.abc import Callable
from typing import Any, cast

import httpx

from tests.support.api import Api
from tests.support.process import Service
from tests.support.session import Session, open_session

LEASE_SEC = 5
SETTINGS: dict[str, Any] = {
    "KERNEL_PRELOAD": "none",
    "POOL_SIZE": 2,
    "MAX_SESSIONS": 50,
    "MAX_CONTAINERS": 20,
    "MAX_EXEC_TIMEOUT_MS": 60_000,
    "CPU_TIME_LIMIT_SEC": 30,
    "QUEUE_TIMEOUT_SEC": 8,
}


def gateway_address() -> str:
    """Return this machine's address, as pods see it."""
    shown = subprocess.run(
        ["ip", "-4", "-o", "address", "show", "docker0"], stdout=subprocess.PIPE, check=True
    )
    found = re.search(rb"inet ([0-9.]+)", shown.stdout)
    assert found is not None
    return found[1].decode()


def opened(api: Api) -> Session:
    """Open a session through a client."""
    return open_session(cast(Service, None), api)


def end(api: Api, session: Session) -> None:
    """Delete a session, once its replica is ready."""

    def delete() -> None:
        response = through(api, session).delete()
        assert response.status_code == 204, response.status_code

    soon(delete)


def through(api: Api, session: Session) -> Session:
    """Return the same session through another client."""
    return Session(session.service, session.created, api)


def soon(work: Callable[[], Any], seconds: float = 30) -> Any:
    """Repeat `work` until it is not answered with 503, and return its result."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except (AssertionError, httpx.TransportError) as error:
            if time.monotonic() > deadline or not (
                "503" in str(error) or isinstance(error, httpx.TransportError)
            ):
                raise
            time.sleep(0.3)
