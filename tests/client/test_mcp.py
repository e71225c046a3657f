"""The command `code-interpreter mcp`, started by the MCP SDK's own client, as desktop applications do."""

import asyncio
import json
import signal
import subprocess
import venv
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from code_interpreter_client.mcp_relay import Relay
from tests.client.command import PROGRAM
from tests.mcp.support import INITIALIZE, links, message, printed, python, tool_call
from tests.support.process import ROOT, Service, free_port


def server(url: str, **environment: str) -> StdioServerParameters:
    """Return what a client's configuration file contains."""
    return StdioServerParameters(
        command=str(PROGRAM), args=["mcp"], env={"CODE_INTERPRETER_URL": url, **environment}, cwd=ROOT
    )


@pytest.fixture(scope="session")
def client_only_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment that has the client and its requirements, but not the service."""
    folder = tmp_path_factory.mktemp("client-only")
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched for modules, but its own .pth files, which lead to the
    # service, are not read.
    installed = Path(httpx.__file__).parents[1]
    (packages / "client.pth").write_text(f"{ROOT / 'client'}\n{installed}\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_program_relays_a_conversation(service: Service, mode: str) -> None:
    """Variables, progress, links and cancelling work as over HTTP; the session ends with the program."""
    reports: list[str] = []

    async def record(progress: float, total: float | None, message: str | None) -> None:
        reports.append(message or "")

    async with Client(server(service.base_url), mode=mode, read_timeout_seconds=60) as client:
        assert "6" in await printed(client, "x = 6; x")
        code = "import time; print('going', flush=True); time.sleep(3); open('f', 'w').write('1')"
        result = await client.call_tool("run_python", {"code": code}, progress_callback=record)
        assert "going" in "".join(reports)
        address = links(result)["f"]
        assert (await client.read_resource(address)).contents[0].text == "1"  # type: ignore[union-attr]
        long = asyncio.create_task(python(client, "time.sleep(25)"))
        await asyncio.sleep(0.5)
        long.cancel()
        assert await printed(client, "x") == "6"
        listed = (await client.call_tool("list_files", {})).structured_content
    ended = await asyncio.to_thread(httpx.get, listed["files"][0]["url"])
    assert ended.status_code == 410


async def test_relay_opens_a_new_session_when_the_service_has_lost_it(service: Service) -> None:
    """The relay repeats the client's opening, and the client sees only the answer to its own request."""
    written: asyncio.Queue[bytes] = asyncio.Queue()

    async def exchange(relay: Relay, request: dict[str, Any]) -> dict[str, Any]:
        await relay.send(json.dumps(request).encode())
        answer = json.loads(await asyncio.wait_for(written.get(), 30))
        assert answer["id"] == request["id"]
        assert isinstance(answer, dict)
        return answer

    async with httpx.AsyncClient(timeout=60) as http:
        relay = Relay(http, f"{service.base_url}/mcp", written.put_nowait)
        await exchange(relay, message("initialize", 1, **INITIALIZE))
        await exchange(relay, tool_call("run_python", 2, code="x = 1"))
        deleted = await http.delete(f"{service.base_url}/mcp", headers=dict(relay._headers))
        assert deleted.status_code == 200
        answer = await exchange(relay, tool_call("run_python", "three", code="x"))
        text = answer["result"]["content"][0]["text"]
        assert "This is a new session" in text
        assert "NameError" in text
        assert written.empty()
        await relay.close()


async def test_requests_get_an_error_when_no_service_runs() -> None:
    """Each request is answered by an error that contains the address; the program continues."""
    url = f"http://127.0.0.1:{free_port()}"
    requests = [message("initialize", 1, **INITIALIZE), message("ping", 2)]
    ended = await asyncio.to_thread(_talk, url, [json.dumps(request).encode() for request in requests])
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert all(f"{url}/mcp does not answer" in answer["error"]["message"] for answer in answers)
    assert ended.returncode == 0


def _talk(
    url: str, lines: list[bytes], program: tuple[str, ...] = (str(PROGRAM),), **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*program, "--url", url, "mcp"],
        input=b"\n".join(lines) + b"\n",
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_invalid_lines_are_answered_with_errors(service: Service) -> None:
    """Lines that are not JSON, not one message, or that the service refuses, each get an error."""
    lines = [b"{", b"[]", b'"\xff"', json.dumps(message("tools/list", 9)).encode(), b"", b'{"id": 5}']
    answers = [json.loads(line) for line in _talk(service.base_url, lines).stdout.splitlines()]
    assert [answer["error"]["code"] for answer in answers[:3]] == [-32700, -32700, -32700]
    assert {answer["id"] for answer in answers[3:]} == {9, 5}
    assert all("error" in answer for answer in answers)


def test_numbers_and_characters_that_json_may_not_have_are_relayed(service: Service) -> None:
    """Python's JSON reader accepts NaN and lone surrogates, and the service answers such a message."""
    lines = [b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": NaN, "b": "\\ud800"}}']
    ended = _talk(service.base_url, lines)
    assert ended.returncode == 0, ended.stderr
    [answer] = [json.loads(line) for line in ended.stdout.splitlines()]
    assert "error" in answer


def test_invalid_settings_end_the_program_with_a_sentence() -> None:
    """An invalid address is named, and so is an invalid key, which is not shown."""
    for url, key, named in (
        ("nowhere", "a-key", b"CODE_INTERPRETER_URL"),
        ("http://there", "a key", b"CODE_INTERPRETER_API_KEY"),
    ):
        ended = _talk(url, [], CODE_INTERPRETER_API_KEY=key)
        assert ended.returncode == 2
        assert named in ended.stderr
        assert key.encode() not in ended.stderr
        assert ended.stdout == b""


def test_program_runs_where_the_service_is_not_installed(service: Service, client_only_python: Path) -> None:
    """An environment with the client alone relays the opening of a conversation."""
    without = subprocess.run(
        [client_only_python, "-I", "-c", "import service"], capture_output=True, check=False
    )
    assert b"No module named 'service'" in without.stderr
    program = (str(client_only_python), "-I", "-m", "code_interpreter_client")
    ended = _talk(service.base_url, [json.dumps(message("initialize", 1, **INITIALIZE)).encode()], program)
    assert ended.returncode == 0, ended.stderr
    [answer] = [json.loads(line) for line in ended.stdout.splitlines()]
    assert answer["result"]["protocolVersion"] == INITIALIZE["protocolVersion"]


def test_sigterm_ends_the_program_and_its_session(service: Service) -> None:
    """SIGTERM has the same effect as the end of the input."""
    process = subprocess.Popen(
        [PROGRAM, "--url", service.base_url, "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
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
        assert process.wait(60) == 0
    assert httpx.get(url).status_code == 410
