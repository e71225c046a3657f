"""Fixtures: a browser, a service with keys, and a notebook that most tests of the page share."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import GENEROUS, serving
from tests.page.driver import Notebook
from tests.support.api import Api
from tests.support.process import Service

KEYS = {"ada": "the-key-of-ada-0123456789abcdef", "bob": "the-key-of-bob-0123456789abcdef"}

OpenNotebook = Callable[..., AbstractContextManager[Notebook]]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium for the tests of this folder. Other tests have event loops of their own."""
    path = shutil.which("chromium")
    assert path, "these tests need the package chromium; `make test` installs it"
    with sync_playwright() as playwright:
        # The default of five seconds is too short for a busy machine.
        expect.set_options(timeout=20_000)
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def keyed(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Start a service that needs keys. Each key may have six sessions."""
    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    yield from serving(
        open_service,
        **GENEROUS,
        API_KEYS=keys,
        KEY_MAX_SESSIONS=6,
        KEY_REQUESTS_PER_MINUTE=0,
        MAX_FILE_SIZE_MB=1,
    )


@pytest.fixture(scope="package")
def api(keyed: Service) -> Iterator[Api]:
    """Return the API with ada's key, to check what the page does."""
    client = Api(keyed.base_url, KEYS["ada"])
    yield client
    client.close()


@pytest.fixture(scope="package")
def open_notebook(browser: Browser, keyed: Service) -> OpenNotebook:
    """Return a context manager that opens the page in a new browser profile, with a session if given."""

    @contextmanager
    def opened(key: str | None = KEYS["ada"], session: str = "", **options: Any) -> Iterator[Notebook]:
        options = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", **options}
        context = browser.new_context(**options)
        context.set_default_timeout(30_000)
        notebook = Notebook(context.new_page(), f"{keyed.base_url}/{session and f'#{session}'}")
        try:
            notebook.open(key)
            yield notebook
        finally:
            if key is not None and notebook.session_id:
                with httpx.Client(base_url=keyed.base_url, headers={"X-API-Key": key}) as client:
                    client.delete(f"/v1/sessions/{notebook.session_id}")
            context.close()

    return opened


@pytest.fixture(scope="package")
def shared(open_notebook: OpenNotebook) -> Iterator[Notebook]:
    """Return a notebook with a session, to which the tests add their cells."""
    with open_notebook() as notebook:
        notebook.run("ready = True")
        yield notebook


@pytest.fixture
def notebook(shared: Notebook) -> Iterator[Notebook]:
    """Return the shared notebook with an empty last cell. Fail if the browser reports a problem."""
    shared.ready()
    shared.problems.clear()
    yield shared
    assert not shared.problems
