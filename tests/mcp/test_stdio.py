"""The command ``code-interpreter-mcp``: the SDK's own client starts it, as programs on a desktop do."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from service.mcp.stdio import Relay
from tests.mcp.support import INITIALIZE, links, message, printed, python, tool_call
from tests.support.process import ROOT, Service, free_port

COMMAND = str(Path(sys.executable).with_name("code-interpreter-mcp"))


def server(url: str, *arguments: str, **environment: str) -> StdioServerParameters:
    """What a client's configuration says."""
    return StdioServerParameters(
        command=COMMAND, args=list(arguments), env={"CODE_INTERPRETER_URL": url, **environment}, cwd=ROOT
    )


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_program_can_be_started_and_talked_to(service: Service, mode: str) -> None:
    """State, progress, links and cancelling work as over HTTP; the session ends with the program."""
    told = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with Client(server(service.base_url), mode=mode, read_timeout_seconds=60) as client:
        assert "6" in await printed(client, "x = 6; x")
        code = "import time; print('going', flush=True); time.sleep(1.2); open('f', 'w').write('1')"
        result = await client.call_tool("run_python", {"code": code}, progress_callback=hear)
        assert "going" in (told[0] or "")
        address = links(result)["f"]
        assert (await client.read_resource(address)).contents[0].text == "1"  # type: ignore[union-attr]
        long = asyncio.create_task(python(client, "time.sleep(25)"))
        await asyncio.sleep(0.5)
        long.cancel()
        assert await printed(client, "x") == "6"
        listed = (await client.call_tool("list_files", {})).structured_content
    ended = await asyncio.to_thread(httpx.get, listed["files"][0]["url"])
    assert ended.status_code == 410


async def test_it_begins_anew_when_the_service_has_forgotten_the_session(service: Service) -> None:
    """A service that was started again knows no session of before: the client need not notice."""
    written: asyncio.Queue[bytes] = asyncio.Queue()

    async def exchange(relay: Relay, request: dict[str, Any]) -> dict[str, Any]:
        await relay.pass_on(json.dumps(request).encode())
        answer = json.loads(await asyncio.wait_for(written.get(), 30))
        assert answer["id"] == request["id"]
        assert isinstance(answer, dict)
        return answer

    async with aiohttp.ClientSession() as http:
        relay = Relay(http, f"{service.base_url}/mcp", written.put_nowait)
        await exchange(relay, message("initialize", 1, **INITIALIZE))
        await exchange(relay, tool_call("run_python", 2, code="x = 1"))
        forgotten = dict(relay._headers)
        async with http.delete(f"{service.base_url}/mcp", headers=forgotten) as deleted:
            assert deleted.status == 200
        answer = await exchange(relay, tool_call("run_python", "three", code="x"))
        said = answer["result"]["content"][0]["text"]
        assert "This is a new session" in said
        assert "NameError" in said
        assert written.empty(), "the answer to its own beginning is not the client's"
        await relay.close()


async def test_a_service_that_is_not_there_is_told_of() -> None:
    """Each request is answered by an error that names the address; the program goes on."""
    url = f"http://127.0.0.1:{free_port()}"
    requests = [message("initialize", 1, **INITIALIZE), message("ping", 2)]
    ended = await asyncio.to_thread(_talk, url, [json.dumps(request).encode() for request in requests])
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert all(f"{url}/mcp does not answer" in answer["error"]["message"] for answer in answers)
    assert ended.returncode == 0


def _talk(url: str, lines: list[bytes], **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, "--url", url],
        input=b"\n".join(lines) + b"\n",
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_what_is_no_message_is_answered(service: Service) -> None:
    """Lines that are not JSON, not one message, or that the service refuses, each get an error."""
    lines = [b"{", b"[]", b'"\xff"', json.dumps(message("tools/list", 9)).encode(), b"", b'{"id": 5}']
    answers = [json.loads(line) for line in _talk(service.base_url, lines).stdout.splitlines()]
    assert [answer["error"]["code"] for answer in answers[:3]] == [-32700, -32700, -32700]
    assert {answer["id"] for answer in answers[3:]} == {9, 5}
    assert all("error" in answer for answer in answers)


def test_bad_settings_end_it_with_a_sentence() -> None:
    """An address that is none is named, and so is a key that is none, which is not shown."""
    for url, key, named in (
        ("nowhere", "a-key", b"CODE_INTERPRETER_URL"),
        ("http://there", "a key", b"CODE_INTERPRETER_API_KEY"),
    ):
        ended = _talk(url, [], CODE_INTERPRETER_API_KEY=key)
        assert ended.returncode == 2
        assert named in ended.stderr
        assert key.encode() not in ended.stderr
        assert ended.stdout == b""


def test_a_signal_ends_it_and_the_session(service: Service) -> None:
    """SIGTERM is as good as the end of the input."""
    process = subprocess.Popen(
        [COMMAND, "--url", service.base_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for request in (
            message("initialize", 1, **INITIALIZE),
            tool_call("write_file", 2, path="a", text="b"),
        ):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        url = answer["result"]["structuredContent"]["url"]
        assert httpx.get(url).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert httpx.get(url).status_code == 410
