"""The errors of the supervisor client: what a refused call raises, and what of it may be logged."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kernel_image import contract
from sessions.containers.errors import EngineUnavailable
from sessions.errors import CallFailed, InvalidPath, SessionsError, WorkspaceFileNotFound, WorkspaceFull
from sessions.kernels.errors import NotClean, SupervisorFailed
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Container


def _no_engine() -> AbstractAsyncContextManager[None]:
    raise EngineUnavailable("this test has no engine")


async def _content() -> AsyncIterator[bytes]:
    yield b"x"


async def _put(client: SupervisorClient) -> None:
    await client.put_file("folder/secret", _content())


async def _open(client: SupervisorClient) -> None:
    async with client.open_file("folder/secret"):
        pass


async def _delete(client: SupervisorClient) -> None:
    await client.delete_file("folder/secret")


async def _rename(client: SupervisorClient) -> None:
    await client.rename_file("folder/secret", "other")


async def _scrub(client: SupervisorClient) -> None:
    await client.scrub("key", 5)


async def error_of(
    call: Callable[[SupervisorClient], Awaitable[Any]], status: int, **facts: Any
) -> SessionsError | CallFailed:
    """Return the error that the call raises if the supervisor answers with an error of this status."""

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": f"no: {request.path}", **facts}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        assert server.port is not None
        container = Container("0", "container", "127.0.0.1", dict.fromkeys(contract.PORTS, server.port))
        client = SupervisorClient(http, container, "token", _no_engine)
        with pytest.raises((CallFailed, SessionsError)) as caught:
            await call(client)
        await client.close()
    assert isinstance(caught.value, CallFailed | SessionsError)
    return caught.value


@pytest.mark.parametrize("call", [_put, _open, _delete, _rename])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, WorkspaceFileNotFound),
        (400, InvalidPath),
        (403, InvalidPath),
        (409, InvalidPath),
        (507, WorkspaceFull),
    ],
)
async def test_refused_request_for_a_file_names_the_reason(
    call: Callable[[SupervisorClient], Awaitable[Any]], status: int, error: type[Exception]
) -> None:
    """The error is about the path, and not about the supervisor."""
    assert type(await error_of(call, status)) is error


@pytest.mark.parametrize("call", [_put, _open, _delete, _rename, _scrub])
async def test_other_refusals_are_failures_of_the_supervisor(
    call: Callable[[SupervisorClient], Awaitable[Any]],
) -> None:
    """The text for the log does not contain the path."""
    error = await error_of(call, 503)
    assert isinstance(error, SupervisorFailed) and not isinstance(error, NotClean)
    assert "503" in error.log_text and "secret" not in error.log_text


async def test_scrub_that_leaves_something_is_not_clean() -> None:
    """The supervisor reports with status 409 that it could not make the container as new."""
    error = await error_of(_scrub, 409, fact="files in /tmp")
    assert type(error) is NotClean and error.log_text.endswith("409: files in /tmp")


@pytest.mark.parametrize("fact", [None, 1, ["x"], "", "two\nlines", "\x1b[31m", "x" * 101, "naïve"])
async def test_log_has_no_difference_that_a_supervisor_would_not_name(fact: object) -> None:
    """Only a short line of plain characters is logged."""
    error = await error_of(_scrub, 409, fact=fact)
    assert type(error) is NotClean and error.log_text.endswith("POST /scrub: 409")


def test_log_text_keeps_the_outcome_and_drops_the_quotation() -> None:
    """The log says what was done about a failure, without the words of the caller."""
    error = SupervisorFailed("PUT /files: 503", "/files/secret", "a new kernel is ready")
    assert str(error) == (
        "the kernel container failed: PUT /files: 503: /files/secret; a new kernel is ready"
    )
    assert error.log_text == "the kernel container failed: PUT /files: 503; a new kernel is ready"
