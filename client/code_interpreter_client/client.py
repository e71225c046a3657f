"""The blocking client. What its calls send and mean is in `calls`; here they are carried out."""

import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Self, TypeVar

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


def _call(flow: Callable[P, Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(flow(*args, **kwargs))

    return describe(method, flow)


def _stream(flow: Callable[P, Flow[httpx.Response]]) -> Callable[Concatenate["Client", P], "Stream"]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> "Stream":
        return Stream(self, flow(*args, **kwargs))

    return describe(method, flow)


class Client:
    """One service, as whoever has the API key. Threads can share it.

    Args:
        url: the service's address; else `CODE_INTERPRETER_URL`, else http://127.0.0.1:8000.
        api_key: else `CODE_INTERPRETER_API_KEY`; none where the service wants none.
        timeout: seconds to wait for an answer, on top of what the code itself may take.
        retry: how often, and for how long, what is safe to repeat is tried again.
        http: an httpx client of your own, for proxies, certificates and the like; it is not closed here.

    Raises:
        ValueError: the address or the key is none.
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

    def session(self, *, ttl: int = 900, files: calls.Inputs | None = None) -> "Session":
        """Open a session: a kernel that is kept between calls, for `ttl` seconds. `with` ends it."""
        return Session(self, self.perform(calls.open_session(ttl=ttl, files=files)).session_id)

    def attach(self, session_id: str) -> "Session":
        """A session that is open already; `with` does not end it.

        Raises:
            SessionNotFound, SessionEnded: there is none of this id.
        """
        info = self.perform(calls.describe_session(session_id))
        return Session(self, info.session_id, ends_with_block=False)

    def perform(self, flow: Flow[T]) -> T:
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
        """Close the connections. Sessions go on."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """An execution that is followed: iterate over its events, the last of which is its `Result`.

    It begins with the iteration, or with `with`, which also ends it: code that is not followed to its end
    is interrupted.
    """

    def __init__(self, client: Client, opening: Flow[httpx.Response]) -> None:
        self._client = client
        self._opening = opening
        self._response: httpx.Response | None = None
        self._reader = EventReader()

    @property
    def result(self) -> Result | None:
        """How it ended; None until then."""
        return self._reader.result

    def _open(self) -> httpx.Response:
        if self._response is None:
            self._response = self._client.perform(self._opening)
        return self._response

    def __iter__(self) -> Iterator[Event]:
        response = self._open()
        try:
            for chunk in response.iter_bytes():
                for event in self._reader.read(chunk):
                    yield event
                    if isinstance(event, Result):
                        return
        except httpx.RequestError as error:
            raise connection_error(error, self._client.url) from error
        finally:
            response.close()
        raise ConnectionLost(self._client.url, "the stream ended without a result")

    def close(self) -> None:
        """Follow it no more; code that still runs is interrupted."""
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
    """A kernel that is kept between calls; what it holds is there until it ends. `with` ends it."""

    def __init__(self, client: Client, session_id: str, *, ends_with_block: bool = True) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._ends_with_block:
            return
        try:
            self.client.perform(calls.delete_session(self.session_id))
        except (NotFound, SessionEnded):
            pass
        except CodeInterpreterError:
            # What went wrong inside says more.
            if error is None:
                raise

    def __repr__(self) -> str:
        return f"Session({self.session_id!r})"
