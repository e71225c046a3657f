"""The file API, served for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.routes.files_support import RunningApp, serve_app
from tests.support.settings import make_settings


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Serve the API for all tests that leave nothing that other tests could see."""
    with serve_app(make_settings(tmp_path_factory.mktemp("files"))) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningApp]:
    """Serve the API for one test, without stored files."""
    with serve_app(make_settings(tmp_path)) as running:
        yield running
