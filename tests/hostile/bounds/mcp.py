"""Attacks on what the service keeps for clients of the Model Context Protocol."""

from typing import Any, Final

import httpx

from tests.hostile.bounds import Attack
from tests.mcp.support import ACCEPT, INITIALIZE, message
from tests.support.process import Service

_MOST_CONVERSATIONS: Final = 500


def _client(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.base_url, headers=ACCEPT, timeout=60)


def _initialize(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/mcp", json=message("initialize", **INITIALIZE | changes))


def _notification(kind: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": f"notifications/{kind}", "params": params}


def _end(client: httpx.Client, answers: list[httpx.Response]) -> None:
    for answer in answers:
        if "mcp-session-id" in answer.headers:
            client.delete("/mcp", headers={"Mcp-Session-Id": answer.headers["mcp-session-id"]})


def large_handshakes(service: Service) -> None:
    """Names, capabilities and versions of a client are bounded, one by one, together and repeated."""
    with _client(service) as client:
        large = "x" * 3_900_000
        empty: dict[str, Any] = {f"{number}": {} for number in range(300_000)}
        for changes in (
            {"clientInfo": {"name": large, "version": "1"}},
            {"capabilities": {"experimental": empty}},
            {"protocolVersion": large},
            {"_meta": {"progressToken": large}},
        ):
            assert _initialize(client, **changes).status_code == 413
        name = {"name": "x" * 15_000, "version": "1"}
        answers = [_initialize(client, clientInfo=name) for _ in range(200)]
        kept = [answer for answer in answers if '"error"' not in answer.text]
        assert 0 < len(kept) < 80
        again = {"Mcp-Session-Id": kept[0].headers["mcp-session-id"]}
        body = message("initialize", **INITIALIZE | {"clientInfo": {"name": large, "version": "1"}})
        for _ in range(5):
            assert "begun already" in client.post("/mcp", json=body, headers=again).text
        _end(client, answers)


def many_conversations(service: Service) -> None:
    """Conversations beyond those of one key are refused."""
    with _client(service) as client:
        answers = [_initialize(client) for _ in range(_MOST_CONVERSATIONS + 50)]
        assert [answer.status_code for answer in answers].count(503) >= 50
        _end(client, answers)


def large_messages(service: Service) -> None:
    """Request ids, tokens, names, addresses and unknown messages of 3.9 MB are answered, and not kept."""
    with _client(service) as client:
        opening = _initialize(client)
        client.headers["Mcp-Session-Id"] = opening.headers["mcp-session-id"]
        client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        large = "x" * 3_900_000
        for body in (
            message("ping", large),
            message("tools/list", _meta={"progressToken": large}),
            message("tools/call", name=large, arguments={}),
            message("tools/call", name="list_files", arguments={large: 1}),
            message("resources/read", uri=f"file:///{large}"),
            message("resources/subscribe", uri=f"file:///{large}"),
            message("resources/list", cursor=large),
            message(large),
            _notification("cancelled", requestId=large),
            _notification("progress", progressToken=large, progress=1),
            {"jsonrpc": "2.0", "id": large, "result": {}},
        ):
            for _ in range(3):
                answer = client.post("/mcp", json=body)
                assert answer.status_code in (200, 202), (str(body)[:100], answer.text[:200])
        _end(client, [opening])


ATTACKS: Final[dict[str, Attack]] = {
    "what an MCP client says about itself": large_handshakes,
    "MCP conversations of a key": many_conversations,
    "a message of an MCP client": large_messages,
}
