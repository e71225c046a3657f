"""Sessions for the tests of the gateway, and a service with keys and small limits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import LIGHT, serving
from tests.gateway.channels import Channels, open_channels
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import Session, new_session

FRAME_BYTES = 65_536
CLIENT_TIMEOUT_SEC = 2
CELL_SEC = 4
"""Time limit of a notebook's cell; a cell over the REST API has one second."""


@pytest.fixture
def channels(service: Service, session: Session) -> Iterator[Channels]:
    """A WebSocket to the session, with frames of the default form."""
    with open_channels(service, session.id) as opened:
        yield opened


@pytest.fixture
def fresh(service: Service) -> Iterator[Session]:
    """A session for one test."""
    with new_session(service) as opened:
        yield opened


@pytest.fixture(scope="session")
def guarded(
    open_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedService]:
    """A service with keys and with small limits."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.touch()
    settings = LIGHT | {
        "API_KEYS_FILE": file,
        "POOL_SIZE": 1,
        "MAX_REQUEST_BYTES": FRAME_BYTES,
        "CLIENT_TIMEOUT_SEC": CLIENT_TIMEOUT_SEC,
        "MAX_EXEC_TIMEOUT_MS": 1000,
        "JUPYTER_TIMEOUT_SEC": CELL_SEC,
        "MAX_DISPLAY_BYTES": 200_000,
    }
    for service in serving(open_service, **settings):
        keyed = KeyedService(service, Path(file))
        yield keyed
        keyed.close()
