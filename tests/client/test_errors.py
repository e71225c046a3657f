"""The error types: each code of the service has one, and each refusal raises its type."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import code_interpreter_client
from code_interpreter_client import (
    BadAnswer,
    Client,
    CodeInterpreterError,
    ConnectionFailed,
    FileNotFound,
    InvalidRequest,
    NoInputRequest,
    NotFound,
    Refused,
    Retry,
    SessionBusy,
    SessionNotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    errors,
)
from service.app import ALL_ANSWERS
from tests.client.conftest import ALICE, MakeClient
from tests.client.odd_server import OddServer, reply
from tests.support.process import Service, free_port

ONCE = Retry(attempts=1)
LARGE = bytes((1 << 20) + 1)


def test_every_code_of_the_service_has_an_error_type() -> None:
    """For a code that the client does not know, the status leads to the same type or a base of it."""
    codes = {answer.code: answer.status for answer in ALL_ANSWERS.values()}
    assert codes.keys() <= errors.BY_CODE.keys()
    for code, status in codes.items():
        kind = errors.refusal_type(status, code)
        assert kind is errors.BY_CODE[code]
        assert kind is not Refused
        assert issubclass(kind, errors.refusal_type(status, "")) or status == 409


def test_docstring_shows_all_error_types() -> None:
    """Each class is in the docstring of `errors`, and can be imported from the package."""

    def tree(root: type[Exception]) -> Iterator[type[Exception]]:
        yield root
        for subclass in root.__subclasses__():
            yield from tree(subclass)

    classes = list(tree(CodeInterpreterError))
    assert len(classes) > 15
    for item in classes:
        assert item.__name__ in str(errors.__doc__)
        assert getattr(code_interpreter_client, item.__name__) is item


REFUSED: list[tuple[str, Callable[[Client], Any], type[Refused], int, str]] = [
    ("file", lambda c: c.read_file("no-such-id"), FileNotFound, 404, "file_not_found"),
    ("id with a path", lambda c: c.read_file("../sessions"), NotFound, 404, "not_found"),
    ("session", lambda c: c.attach("no-such-id"), SessionNotFound, 404, "session_not_found"),
    ("timeout", lambda c: c.run("1", timeout=9999), InvalidRequest, 422, "invalid_request"),
    ("NUL", lambda c: c.run("\0"), InvalidRequest, 422, "invalid_request"),
    ("path", lambda c: c.run("1", files={"../x": b"x"}), InvalidRequest, 422, "invalid_path"),
    ("file size", lambda c: c.upload(bytes(11 << 20)), TooLarge, 413, "file_too_large"),
    ("request size", lambda c: c.run("#" * (5 << 20)), TooLarge, 413, "request_too_large"),
]


@pytest.mark.parametrize(
    ("call", "kind", "status", "code"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED]
)
def test_refusal_raises_its_error_type(
    client: Client, call: Callable[[Client], Any], kind: type[Refused], status: int, code: str
) -> None:
    """The error has the status, the code, and a sentence."""
    with pytest.raises(kind) as caught:
        call(client)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value) == caught.value.detail
    assert "{" not in caught.value.detail
    assert caught.value.retry_after is None


def test_invalid_request_names_the_field(client: Client) -> None:
    """The service's list of problems becomes a sentence."""
    with pytest.raises(InvalidRequest, match=r"^ttl_seconds: Input should be .* 1$"):
        client.session(ttl=0)


def test_session_raises_the_reason_of_a_refusal(client: Client) -> None:
    """The session does not wait for input, or is busy."""
    with client.session() as session:
        with pytest.raises(NoInputRequest):
            session.answer("x")
        session.start("import time; time.sleep(25)", timeout=28)
        with pytest.raises(SessionBusy) as busy:
            session.complete("pri")
        assert (busy.value.status, busy.value.code) == (409, "session_busy")


def test_missing_keys_and_exceeded_limits_raise(make_client: MakeClient, crowded: Service) -> None:
    """A missing or wrong key is refused. An exceeded limit has a time to try again."""
    for key, code in (("", "key_missing"), ("wrong", "key_invalid")):
        with pytest.raises(Unauthorized) as refused:
            make_client(crowded.base_url, api_key=key).list_files()
        assert (refused.value.status, refused.value.code) == (401, code)
    alice = make_client(crowded.base_url, api_key=ALICE, retry=ONCE)
    assert alice.list_files() == []
    with pytest.raises(TooMany) as many:
        alice.session()
    assert (many.value.status, many.value.code, many.value.retry_after) == (429, "too_many_sessions", 10.0)
    with pytest.raises(TooLarge):
        alice.upload(LARGE)


def test_environment_supplies_address_and_key(
    make_client: MakeClient, crowded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments take precedence over the environment."""
    monkeypatch.setenv("CODE_INTERPRETER_URL", crowded.base_url + "/")
    monkeypatch.setenv("CODE_INTERPRETER_API_KEY", ALICE)
    client = make_client(None)
    assert client.url == crowded.base_url
    assert client.list_files() == []
    with pytest.raises(Unauthorized):
        make_client(None, api_key="other").list_files()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "not an address"])
def test_invalid_address_raises_before_any_request(make_client: MakeClient, url: str) -> None:
    """The error says what an address looks like."""
    with pytest.raises(ValueError, match="is not the address of a service"):
        make_client(url)


def test_invalid_key_raises_before_any_request(make_client: MakeClient) -> None:
    """The error does not contain the key."""
    for key in ("kéy", "a\r\nX-Other: b"):
        with pytest.raises(ValueError, match="API key") as refused:
            make_client("http://127.0.0.1:1", api_key=key)
        assert key not in str(refused.value)


def test_missing_service_raises_connection_failed(make_client: MakeClient) -> None:
    """The error contains the address and the system's reason."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionFailed, match=url) as caught:
        make_client(url, retry=ONCE).health()
    assert caught.value.url == url


@pytest.mark.parametrize(
    ("status", "body", "content_type", "kind"),
    [
        pytest.param(502, b"<h1>Bad gateway</h1>", "text/html", Unavailable, id="page of a proxy"),
        pytest.param(404, b"<h1>Not found</h1>", "text/html", NotFound, id="another server"),
        pytest.param(507, b'{"detail": "full"}', "application/json", StorageFull, id="without a code"),
        pytest.param(
            418, b'{"detail": "no", "code": "teapot"}', "application/json", InvalidRequest, id="unknown code"
        ),
        pytest.param(500, b'{"detail": [1], "code": 5}', "application/json", Unavailable, id="odd JSON"),
        pytest.param(429, b"{}", "application/json", TooMany, id="without a detail"),
        pytest.param(400, b"\xff\xfe", "application/json", InvalidRequest, id="no JSON"),
    ],
)
def test_answer_without_a_known_code_raises_by_its_status(
    make_client: MakeClient,
    odd_server: OddServer,
    status: int,
    body: bytes,
    content_type: str,
    kind: type[Refused],
) -> None:
    """Such answers come from proxies and newer services. The client does not follow their `Location`."""
    odd_server.script = [reply(status, body, content_type, Location="http://127.0.0.1:1/")]
    with pytest.raises(kind) as caught:
        make_client(odd_server.url, retry=ONCE, api_key="k").health()
    assert caught.value.status == status
    assert str(caught.value)
    assert len(odd_server.seen) == 1


def test_redirect_raises_with_its_location(make_client: MakeClient, odd_server: OddServer) -> None:
    """A proxy may redirect to HTTPS. The client does not follow, so the key stays here."""
    odd_server.script = [reply(301, b"", "text/html", Location="https://there/v1/execute")]
    with pytest.raises(BadAnswer, match="https://there/v1/execute"):
        make_client(odd_server.url, api_key="k").run("1")
    assert len(odd_server.seen) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"status": 5}', b"null", b"\xff"], ids=repr)
def test_invalid_answer_raises_bad_answer(
    make_client: MakeClient, odd_server: OddServer, body: bytes
) -> None:
    """The answer is not JSON, or lacks fields, or has fields of the wrong type."""
    odd_server.script = [reply(200, body)]
    with pytest.raises(BadAnswer):
        make_client(odd_server.url).health()
