"""A service with several keys, and what one of them owns."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from service.app import create_app
from service.lifespan import lifespan
from service.server import ROUTERS
from tests.auth.belongings import ENV_KEY, Things, make_things
from tests.conftest import GENEROUS
from tests.support.keys import KeyedService, make_key
from tests.support.process import Service
from tests.support.settings import make_settings


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application as the command makes it. It is not served: tests read its routes and its document."""
    settings = make_settings(tmp_path_factory.mktemp("app"), api_keys="alice:x")
    return create_app(settings, lifespan, ROUTERS)


@pytest.fixture(scope="session")
def keyed(
    open_service: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KeyedService]:
    """A service with keys in `API_KEYS` and in a file, and the most detailed log."""
    file = tmp_path_factory.mktemp("keyed") / "keys"
    make_key(file, "unused")
    service = open_service(
        **GENEROUS,
        API_KEYS=f"carol:{ENV_KEY}",
        API_KEYS_FILE=file,
        KEY_REQUESTS_PER_MINUTE=0,
        WRONG_KEYS_PER_MINUTE=0,
        LOG_LEVEL="DEBUG",
    )
    keyed = KeyedService(service, file)
    yield keyed
    keyed.close()
    service.finish()


@pytest.fixture(scope="session")
def alices(keyed: KeyedService) -> Iterator[Things]:
    """A file, a session and a cell of alice."""
    things = make_things(keyed, "alice")
    yield things
    things.session.delete()
