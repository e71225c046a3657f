"""The service under test."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import GENEROUS
from tests.support.api import Api
from tests.support.process import Service
from tests.support.session import live_sessions


def clear(api: Api) -> None:
    """Delete every session and file."""
    for session_id in live_sessions(api):
        api.http.delete(f"/v1/sessions/{session_id}")
    for file in api.http.get("/v1/files").json()["files"]:
        api.http.delete(f"/v1/files/{file['file_id']}")


@pytest.fixture(scope="session")
def target(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service for calls of all kinds. It reuses containers, so most calls are fast."""
    settings = {"CONTAINER_REUSE": "tenant", "MAX_EXEC_TIMEOUT_MS": 10_000, "QUEUE_TIMEOUT_SEC": 60}
    service = open_service(**GENEROUS | settings)
    yield service
    clear(service.api)
    service.finish()
