"""Conversations on several replicas: each request goes to the replica that has its conversation.

A conversation is in the memory of one replica. So the id that the client gets begins with the replica's id.
"""

from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.forwarding import Forwarder, is_passed_on
from service.replicas.leased_replica import LeasedReplica

_HEADER: Final = b"mcp-session-id"
_SEPARATOR: Final = "."


class ReplicaRouting:
    """ASGI application around `app`, which knows a conversation by the second part of its id."""

    def __init__(self, app: ASGIApp, replica: LeasedReplica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        url = await self._url_elsewhere(scope)
        if url is None:
            await self._app(_without_replica(scope), receive, self._with_replica(send))
        else:
            forwarder: Forwarder = scope["app"].state.forwarder
            answer = await forwarder.answer_of(url, Request(scope, receive))
            await answer(scope, receive, send)

    async def _url_elsewhere(self, scope: Scope) -> str | None:
        """Return the URL of the replica that has the conversation; None if it is this one or is gone."""
        replica_id, separator, _ = _conversation_id(scope).partition(_SEPARATOR)
        if not separator or replica_id == self._replica.holder or is_passed_on(scope):
            return None
        return await self._replica.url_of(replica_id)

    def _with_replica(self, send: Send) -> Send:
        """Return a `send` that puts the id of this replica in front of the conversation's id."""
        prefix = f"{self._replica.holder}{_SEPARATOR}".encode()

        async def send_with_replica(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, prefix + value if name.lower() == _HEADER else value)
                    for name, value in message.get("headers", ())
                ]
                message = {**message, "headers": headers}
            await send(message)

        return send_with_replica


def _conversation_id(scope: Scope) -> str:
    found: bytes = dict(scope["headers"]).get(_HEADER, b"")
    return found.decode("latin-1")


def _without_replica(scope: Scope) -> Scope:
    """Return the request with the conversation's id as the SDK has given it."""
    plain = _conversation_id(scope).rpartition(_SEPARATOR)[2].encode("latin-1")
    headers = [(name, plain if name == _HEADER else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}
