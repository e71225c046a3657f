"""Tests of errors on the wire: each has a response, none shows internals, large bodies are refused."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Request

from service.app import ALL_ANSWERS
from service.errors import StartError
from service.http.answers import answer_for
from service.http.errors import BrowserRefused
from service.routes.schemas.execute import ExecuteRequest
from sessions.errors import CallFailed, SecretUnreadable, ServiceFault, SessionsError, StorageFull
from tests.routes.files_support import RunningApp, serve_app
from tests.support.settings import make_settings

JSON = {"Content-Type": "application/json"}
LIMIT = 100_000

# One route for each way to fail.
router = APIRouter()


@router.post("/echo")
async def echo(request: ExecuteRequest) -> int:
    """Take the body of an execution and return the length of its code."""
    return len(request.code)


@router.post("/unread")
async def unread() -> str:
    """Respond without reading the body."""
    return "answered"


@router.get("/broken")
async def broken() -> None:
    """Raise an error that has no response."""
    raise RuntimeError("the password is hunter2")


@router.get("/full")
async def full() -> None:
    """Raise an error that has a response and a fact that is not for the caller."""
    raise StorageFull("/secret/path")


@router.get("/surrogate")
async def surrogate(request: Request) -> None:
    """Raise an error whose text UTF-8 cannot encode."""
    raise ServiceErrorWithSurrogate


class ServiceErrorWithSurrogate(StorageFull):
    """An error with the response of its base class."""

    def __init__(self) -> None:
        super().__init__("")
        self.args = ("lone \ud800 surrogate",)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Serve the routes above."""
    settings = make_settings(tmp_path_factory.mktemp("errors"), max_request_bytes=LIMIT)
    with serve_app(settings, router) as running:
        yield running


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    """Return all subclasses of an error, at any depth."""
    for error in root.__subclasses__():
        yield error
        yield from subclasses(error)


# The table -------------------------------------------------------------------------------------

NOT_ANSWERED = {ServiceFault, BrowserRefused, SecretUnreadable}
"""The first two are never raised themselves. The last one ends sessions as lost when they are resumed."""


@pytest.mark.parametrize("root", [CallFailed, SessionsError])
def test_every_error_has_a_response(root: type[Exception]) -> None:
    """A new error needs a line in ALL_ANSWERS, or a base class with one."""
    missing = [
        error.__name__
        for error in subclasses(root)
        if error not in NOT_ANSWERED and not any(base in ALL_ANSWERS for base in error.__mro__)
    ]
    assert missing == []


def test_errors_at_the_start_have_no_response() -> None:
    """The text of these errors is for the operator and must not reach a caller."""
    assert [error for error in subclasses(StartError) if error in ALL_ANSWERS] == []
    with pytest.raises(KeyError):
        answer_for(StartError())


def test_codes_are_lower_case_words() -> None:
    """Each code is in lower case and has the status of an error."""
    for answer in ALL_ANSWERS.values():
        assert answer.code.replace("_", "").isalpha() and answer.code.islower()
        assert 400 <= answer.status < 600


# Answers ---------------------------------------------------------------------------------------


def test_an_unexpected_error_shows_no_internals(api: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a 500 in the usual form, and the log has the traceback once."""
    with caplog.at_level(logging.ERROR):
        response = api.http.get("/broken")
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "hunter2" not in response.text
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "hunter2" in caplog.text


def test_facts_for_the_log_do_not_reach_the_caller(api: RunningApp) -> None:
    """The 507 for a full disk does not name the folder."""
    response = api.http.get("/full")
    assert response.status_code == 507
    assert response.json()["code"] == "storage_full"
    assert "secret" not in response.text


def test_a_response_can_have_any_text(api: RunningApp) -> None:
    """A lone surrogate in a message is escaped and causes no second error."""
    response = api.http.get("/surrogate")
    assert response.status_code == 507
    assert response.json()["detail"] == "lone \ud800 surrogate"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("GET", "/echo", 405)])
def test_errors_of_the_router_have_the_usual_form(
    api: RunningApp, method: str, path: str, status: int
) -> None:
    """Errors for unknown paths and methods have `detail` and `code` too."""
    response = api.http.request(method, path)
    assert response.status_code == status
    assert set(response.json()) == {"detail", "code"}


# Bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Field required"),
        (b"print(1)", "JSON decode error"),
        (b"\xff\xfe", "JSON decode error"),
        (b'{"code": "\xff"}', "UTF-8"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"code": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"code": "1", "timeout_ms": NaN}', "integer"),
        (b'{"code": "1", "timeout_ms": 1e400}', "integer"),
        (b'{"code": "\\ud800"}', "surrogates"),
        (b'{"code": "1", "stdin": "\\udfff"}', "surrogates"),
        (b'{"code": "1", "files": [{"path": "\\udfff", "file_id": "1"}]}', "surrogates"),
        (b'{"code": "\\u0000"}', "NUL"),
        (b"[]", "dictionary"),
    ],
)
def test_an_invalid_body_is_422_with_the_reason(api: RunningApp, content: bytes, message: str) -> None:
    """The reasons are a list of `type`, `loc` and `msg` for every error of the parser."""
    response = api.http.post("/echo", content=content, headers=JSON)
    assert response.status_code == 422, response.text
    answer = response.json()
    assert answer["code"] == "invalid_request"
    assert {tuple(sorted(problem)) for problem in answer["detail"]} == {("loc", "msg", "type")}
    assert message in json.dumps(answer["detail"])


def test_input_is_never_repeated(api: RunningApp) -> None:
    """The response has neither the value nor its context."""
    secret = "hunter2" * 1000
    for body in ({"code": [secret]}, {"code": "1", "files": [{"path": {secret: 1}}]}):
        response = api.http.post("/echo", json=body)
        assert response.status_code == 422
        assert "hunter2" not in response.text


def sized(size: int) -> bytes:
    """Return a body of exactly ``size`` bytes."""
    frame = b'{"code": ""}'
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]


@pytest.mark.parametrize("has_length", [True, False], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (20_000_000, 413)])
def test_a_body_over_the_limit_is_413(api: RunningApp, size: int, status: int, has_length: bool) -> None:
    """A body of the limit's size is accepted. A larger one is refused, and the error has the limit."""
    content: Any = sized(size)
    if not has_length:
        content = iter([content[start : start + 50_000] for start in range(0, size, 50_000)])
    response = api.http.post("/echo", content=content, headers=JSON)
    assert response.status_code == status
    if status == 413:
        assert response.json() == {
            "detail": f"Request body exceeds maximum of {LIMIT} bytes",
            "code": "request_too_large",
        }
    # The connection can still be used for the next request.
    assert api.http.post("/echo", json={"code": "12"}).json() == 2


def test_an_unread_body_does_not_change_the_response(api: RunningApp) -> None:
    """Routes that take no body, and unknown paths, respond as without one."""
    assert api.http.post("/unread", content=sized(LIMIT * 2)).json() == "answered"
    assert api.http.post("/nowhere", content=sized(LIMIT * 2)).status_code == 404
