"""The guard, which checks the key of every request."""

from typing import Any

from starlette.types import Message, Scope

from service.auth.keyring import Keyring
from service.auth.limits import RequestRate, WrongKeyRate
from service.http.browsers import KnownHosts
from service.http.guard import Guard


async def test_every_websocket_needs_a_key_whatever_its_path() -> None:
    """Pages that need no key are open for requests only, not for WebSockets with the same path."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise AssertionError("the guard let it in")

    async def receive() -> Message:
        raise AssertionError("the guard reads nothing")

    guard = Guard(
        app,
        Keyring({"ada": "k" * 32}, None),
        RequestRate(0),
        {"/docs"},
        (),
        KnownHosts((), ""),
        WrongKeyRate(0),
        lambda: None,
    )
    for path in ("/health", "/docs", "/api/kernels/x/channels", "/v1/files"):
        sent: list[Message] = []

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "websocket",
            "path": path,
            "headers": [],
            "query_string": b"",
            "extensions": {},
        }
        await guard(scope, receive, send)
        assert sent[0]["type"] == "websocket.http.response.start"
        assert sent[0]["status"] == 401
