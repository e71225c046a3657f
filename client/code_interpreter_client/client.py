"""The blocking client. It performs the flows of `calls`."""

import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Self, TypeVar

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


def _call(flow: Callable[P, Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(flow(*args, **kwargs))

    return describe(method, flow)


def _stream(flow: Callable[P, Flow[httpx.Response]]) -> Callable[Concatenate["Client", P], "Stream"]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> "Stream":
        return Stream(self, flow(*args, **kwargs))

    return describe(method, flow)


class Client:
    """A client of one service. Threads can share it.

    Args:
        url: the service's address; by default `CODE_INTERPRETER_URL`, or http://127.0.0.1:8000.
        api_key: by default `CODE_INTERPRETER_API_KEY`. A service may need no key.
        timeout: seconds to wait for an answer, in addition to the time that the code itself may take.
        retry: how often and for how long requests that are safe to repeat are sent again.
        http: an httpx client of your own, for proxies, certificates and the like. You close it yourself.

    Raises:
        ValueError: the address or the key is not valid.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, timeout)
        self._retry = retry or Retry()
        self._http = http or httpx.Client()
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

    def session(self, *, ttl: int = 900, files: Inputs | None = None) -> "Session":
        """Open a session: a kernel that is kept between calls, for `ttl` seconds. A `with` block ends it."""
        return Session(self, self.perform(sessions.open_session(ttl=ttl, files=files)).session_id)

    def attach(self, session_id: str) -> "Session":
        """Return a session that is open already. A `with` block does not end it.

        Raises:
            SessionNotFound: there is no session with this id.
            SessionEnded: the session has ended.
        """
        info = self.perform(sessions.describe(session_id))
        return Session(self, info.session_id, ends_with_block=False)

    def perform(self, flow: Flow[T]) -> T:
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
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._exchange(step)

    def _exchange(self, request: Request) -> Outcome:
        try:
            with self._connection.built(self._http, request) as built:
                response = self._http.send(built, stream=True)
            if request.stream and response.is_success:
                return response
            try:
                self._read(response, request)
            finally:
                response.close()
        except httpx.RequestError as error:
            return error
        return response

    def _read(self, response: httpx.Response, request: Request) -> None:
        if request.into is None or not response.is_success:
            response.read()
            return
        with saving(response, request.into, request.progress) as file:
            for chunk in response.iter_bytes():
                file.write(chunk)

    def close(self) -> None:
        """Close the connections. Sessions stay open."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """The events of an execution, to iterate over. The last one is its `Result`.

    The execution begins with the iteration, or with a `with` block. If the iteration or the block ends
    before the result, the code is interrupted.
    """

    def __init__(self, client: Client, opening: Flow[httpx.Response]) -> None:
        self._client = client
        self._opening = opening
        self._response: httpx.Response | None = None
        self._reader = EventReader()

    @property
    def result(self) -> Result | None:
        """How the code ended; None until then."""
        return self._reader.result

    def _open(self) -> httpx.Response:
        if self._response is None:
            self._response = self._client.perform(self._opening)
        return self._response

    def __iter__(self) -> Iterator[Event]:
        response = self._open()
        try:
            for received in EventSource(response).iter_sse():
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
            response.close()
        raise ConnectionLost(self._client.url, "the stream ended without a result")

    def close(self) -> None:
        """Stop following the code. Code that still runs is interrupted."""
        if self._response is not None:
            self._response.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _session_call(
    flow: Callable[Concatenate[str, P], Flow[T]],
) -> Callable[Concatenate["Session", P], T]:
    def method(self: "Session", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.perform(flow(self.session_id, *args, **kwargs))

    return describe(method, flow, leaving_out=1)


def _session_stream(
    flow: Callable[Concatenate[str, P], Flow[httpx.Response]],
) -> Callable[Concatenate["Session", P], Stream]:
    def method(self: "Session", /, *args: P.args, **kwargs: P.kwargs) -> Stream:
        return Stream(self.client, flow(self.session_id, *args, **kwargs))

    return describe(method, flow, leaving_out=1)


class Session:
    """A kernel that keeps its variables and files between calls. A `with` block ends it."""

    def __init__(self, client: Client, session_id: str, *, ends_with_block: bool = True) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._ends_with_block:
            return
        try:
            self.client.perform(sessions.delete(self.session_id))
        except (NotFound, SessionEnded):
            pass
        except CodeInterpreterError:
            # An error inside the block says more than this one.
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"Session({self.session_id!r})"
