"""The asynchronous client. It performs the flows of `calls`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from code_interpreter_client.binding import describe
from code_interpreter_client.calls import executions, files, service, sessions, workspace
from code_interpreter_client.calls.inputs import Inputs
from code_interpreter_client.errors import (
    BadAnswer,
    CodeInterpreterError,
    ConnectionLost,
    NotFound,
    SessionEnded,
)
from code_interpreter_client.http.connection import Connection, saving
from code_interpreter_client.http.event_stream import EventReader
from code_interpreter_client.http.exchange import Flow, Outcome, Pause, Request, connection_error, steps
from code_interpreter_client.http.retry import Retry
from code_interpreter_client.models.events import Event
from code_interpreter_client.models.results import Result

P = ParamSpec("P")
T = TypeVar("T")


def _call(flow: Callable[P, Flow[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(flow(*args, **kwargs))

    return describe(method, flow)


def _stream(
    flow: Callable[P, Flow[httpx.Response]],
) -> Callable[Concatenate["AsyncClient", P], "AsyncStream"]:
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> "AsyncStream":
        return AsyncStream(self, flow(*args, **kwargs))

    return describe(method, flow)


class AsyncClient:
    """A `Client` for asyncio, with the same arguments and calls. `http` is an `httpx.AsyncClient`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retry: Retry | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, timeout)
        self._retry = retry or Retry()
        self._http = http or httpx.AsyncClient()
        self._owns_http = http is None

    @property
    def url(self) -> str:
        """The service's address."""
        return self._connection.url

    health = _call(service.health)
    run = _call(executions.run)
    stream = _stream(executions.open_stream)

    upload = _call(files.upload)
    list_files = _call(files.list_files)
    read_file = _call(files.read_file)
    download_file = _call(files.download_file)
    save_files = _call(files.save_files)
    delete_file = _call(files.delete_file)

    list_sessions = _call(sessions.list_sessions)

    def session(self, *, ttl: int = 900, files: Inputs | None = None) -> "Opening":
        """Open a session. `async with client.session() as session` also ends it; `await` does not."""
        return Opening(self, sessions.open_session(ttl=ttl, files=files))

    async def attach(self, session_id: str) -> "AsyncSession":
        """Return a session that is open already. An `async with` block does not end it.

        Raises:
            SessionNotFound: there is no session with this id.
            SessionEnded: the session has ended.
        """
        info = await self.perform(sessions.describe(session_id))
        return AsyncSession(self, info.session_id, ends_with_block=False)

    async def perform(self, flow: Flow[T]) -> T:
        """Perform a flow of `calls` and return its value."""
        performed = steps(flow, self.url, self._retry)
        outcome: Outcome = None
        while True:
            try:
                step = performed.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._exchange(step)

    async def _exchange(self, request: Request) -> Outcome:
        try:
            with self._connection.built(self._http, request) as built:
                response = await self._http.send(built, stream=True)
            if request.stream and response.is_success:
                return response
            try:
                await self._read(response, request)
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            return error
        return response

    async def _read(self, response: httpx.Response, request: Request) -> None:
        if request.into is None or not response.is_success:
            await response.aread()
            return
        with saving(response, request.into, request.progress) as file:
            async for chunk in response.aiter_bytes():
                file.write(chunk)

    async def close(self) -> None:
        """Close the connections. Sessions stay open."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncStream:
    """The events of an execution, as `Stream` has them.

    To leave an `async for` early, put an `async with` around it. Otherwise the code is interrupted only when
    Python disposes of the iterator.
    """

    def __init__(self, client: AsyncClient, opening: Flow[httpx.Response]) -> None:
        self._client = client
        self._opening = opening
        self._response: httpx.Response | None = None
        self._reader = EventReader()

    @property
    def result(self) -> Result | None:
        """How the code ended; None until then."""
        return self._reader.result

    async def _open(self) -> httpx.Response:
        if self._response is None:
            self._response = await self._client.perform(self._opening)
        return self._response

    async def __aiter__(self) -> AsyncIterator[Event]:
        response = await self._open()
        try:
            async with aclosing(EventSource(response).aiter_sse()) as source:
                async for received in source:
                    event = self._reader.read(received)
                    if event is not None:
                        yield event
                    if isinstance(event, Result):
                        return
        except SSEError as error:
            raise BadAnswer(str(error)) from error
        except httpx.RequestError as error:
            raise connection_error(error, self._client.url) from error
        finally:
            await response.aclose()
        raise ConnectionLost(self._client.url, "the stream ended without a result")

    async def close(self) -> None:
        """Stop following the code. Code that still runs is interrupted."""
        if self._response is not None:
            await self._response.aclose()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _session_call(
    flow: Callable[Concatenate[str, P], Flow[T]],
) -> Callable[Concatenate["AsyncSession", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncSession", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.client.perform(flow(self.session_id, *args, **kwargs))

    return describe(method, flow, leaving_out=1)


def _session_stream(
    flow: Callable[Concatenate[str, P], Flow[httpx.Response]],
) -> Callable[Concatenate["AsyncSession", P], AsyncStream]:
    def method(self: "AsyncSession", /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream:
        return AsyncStream(self.client, flow(self.session_id, *args, **kwargs))

    return describe(method, flow, leaving_out=1)


class AsyncSession:
    """A `Session` for asyncio, with the same calls."""

    def __init__(self, client: AsyncClient, session_id: str, *, ends_with_block: bool = True) -> None:
        self.client = client
        self.session_id = session_id
        self._ends_with_block = ends_with_block

    run = _session_call(executions.run_in_session)
    stream = _session_stream(executions.open_stream_in_session)
    start = _session_call(executions.start_in_session)
    bash = _session_call(sessions.bash)
    answer = _session_call(sessions.answer_input)
    interrupt = _session_call(sessions.interrupt)
    restart = _session_call(sessions.restart)
    complete = _session_call(sessions.complete)
    inspect = _session_call(sessions.inspect)

    cells = _session_call(sessions.cells)
    cells_page = _session_call(sessions.cells_page)
    cell = _session_call(sessions.cell)
    notebook = _session_call(sessions.notebook)

    list_files = _session_call(workspace.list_files)
    upload = _session_call(workspace.upload)
    read_file = _session_call(workspace.read_file)
    download_file = _session_call(workspace.download_file)
    delete_file = _session_call(workspace.delete_file)
    rename_file = _session_call(workspace.rename_file)

    describe = _session_call(sessions.describe)
    extend = _session_call(sessions.extend)
    delete = _session_call(sessions.delete)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._ends_with_block:
            return
        try:
            await self.client.perform(sessions.delete(self.session_id))
        except (NotFound, SessionEnded):
            pass
        except CodeInterpreterError:
            # An error inside the block says more than this one.
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"AsyncSession({self.session_id!r})"


class Opening:
    """A session that `await` or `async with` opens."""

    def __init__(self, client: AsyncClient, opening: Flow[Any]) -> None:
        self._client = client
        self._opening = opening
        self._session: AsyncSession | None = None

    async def _open(self) -> AsyncSession:
        info = await self._client.perform(self._opening)
        return AsyncSession(self._client, info.session_id)

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(self, *problem: Any) -> None:
        assert self._session is not None
        await self._session.__aexit__(*problem)
