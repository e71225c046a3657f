"""The asynchronous client. What its calls send and mean is in `calls`; here they are carried out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from code_interpreter_client import calls
from code_interpreter_client.binding import describe
from code_interpreter_client.errors import CodeInterpreterError, ConnectionLost, NotFound, SessionEnded
from code_interpreter_client.event_stream import EventReader
from code_interpreter_client.exchange import Flow, Outcome, Pause, Request, connection_error, steps
from code_interpreter_client.models import Event, Result
from code_interpreter_client.retry import Retry
from code_interpreter_client.transport import Connection, saving

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
    """As `Client`, for asyncio; `http` is an `httpx.AsyncClient`."""

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
        """Where the service is."""
        return self._connection.url

    health = _call(calls.health)
    run = _call(calls.run)
    stream = _stream(calls.open_stream)

    upload = _call(calls.upload)
    list_files = _call(calls.list_files)
    read_file = _call(calls.read_file)
    download_file = _call(calls.download_file)
    save_files = _call(calls.save_files)
    delete_file = _call(calls.delete_file)

    list_sessions = _call(calls.list_sessions)

    def session(self, *, ttl: int = 900, files: calls.Inputs | None = None) -> "Opening":
        """Open a session: `async with client.session() as session` also ends it; or `await` it."""
        return Opening(self, calls.open_session(ttl=ttl, files=files))

    async def attach(self, session_id: str) -> "AsyncSession":
        """A session that is open already; `async with` does not end it.

        Raises:
            SessionNotFound, SessionEnded: there is none of this id.
        """
        info = await self.perform(calls.describe_session(session_id))
        return AsyncSession(self, info.session_id, ends_with_block=False)

    async def perform(self, flow: Flow[T]) -> T:
        """Carry out a call of `calls`."""
        to_do = steps(flow, self.url, self._retry)
        outcome: Outcome = None
        while True:
            try:
                step = to_do.send(outcome)
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
        """Close the connections. Sessions go on."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncStream:
    """As `Stream`. A loop that is left early needs `async with` around it, to end the code at once."""

    def __init__(self, client: AsyncClient, opening: Flow[httpx.Response]) -> None:
        self._client = client
        self._opening = opening
        self._response: httpx.Response | None = None
        self._reader = EventReader()

    @property
    def result(self) -> Result | None:
        """How it ended; None until then."""
        return self._reader.result

    async def _open(self) -> httpx.Response:
        if self._response is None:
            self._response = await self._client.perform(self._opening)
        return self._response

    async def __aiter__(self) -> AsyncIterator[Event]:
        response = await self._open()
        try:
            async for chunk in response.aiter_bytes():
                for event in self._reader.read(chunk):
                    yield event
                    if isinstance(event, Result):
                        return
        except httpx.RequestError as error:
            raise connection_error(error, self._client.url) from error
        finally:
            await response.aclose()
        raise ConnectionLost(self._client.url, "the stream ended without a result")

    async def close(self) -> None:
        """Follow it no more; code that still runs is interrupted."""
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
    """As `Session`."""

    def __init__(self, client: AsyncClient, session_id: str, *, ends_with_block: bool = True) -> None:
        self.client = client
        self.session_id = session_id
        self._ends_with_block = ends_with_block

    run = _session_call(calls.session_run)
    stream = _session_stream(calls.session_open_stream)
    start = _session_call(calls.session_start)
    bash = _session_call(calls.bash)
    answer = _session_call(calls.answer_input)
    interrupt = _session_call(calls.interrupt)
    restart = _session_call(calls.restart)
    complete = _session_call(calls.complete)
    inspect = _session_call(calls.inspect)

    cells = _session_call(calls.cells)
    cell = _session_call(calls.cell)
    notebook = _session_call(calls.notebook)

    list_files = _session_call(calls.session_files)
    upload = _session_call(calls.session_upload)
    read_file = _session_call(calls.session_read)
    download_file = _session_call(calls.session_download)
    delete_file = _session_call(calls.session_delete_file)
    rename_file = _session_call(calls.session_rename)

    describe = _session_call(calls.describe_session)
    extend = _session_call(calls.extend_session)
    delete = _session_call(calls.delete_session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._ends_with_block:
            return
        try:
            await self.client.perform(calls.delete_session(self.session_id))
        except (NotFound, SessionEnded):
            pass
        except CodeInterpreterError:
            # What went wrong inside says more.
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"AsyncSession({self.session_id!r})"


class Opening:
    """A session that is about to be opened."""

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
