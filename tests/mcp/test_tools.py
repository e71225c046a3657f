"""The tools, called by the SDK's own client over streamable HTTP."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable

import httpx
import jsonschema
import pytest
from mcp import Client, MCPError

from tests.mcp.support import (
    ACCEPT,
    INITIALIZE,
    conversation,
    images,
    links,
    message,
    printed,
    python,
    text,
    tool_call,
)
from tests.support.process import Service
from tests.support.session import WAIT_FOR_FILE

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DRAW = """
import base64, os, zlib, struct
from IPython.display import Image, display
def picture(size):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    head = struct.pack('>IIBBBBB', 1, 1, 8, 2, 0, 0, 0)
    noise = chunk(b'teXt', os.urandom(size))
    body = noise + chunk(b'IDAT', zlib.compress(b'\\0abc')) + chunk(b'IEND', b'')
    return b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', head) + body
"""


async def test_conversation_keeps_its_state_and_gets_the_note_on_a_new_session_once(client: Client) -> None:
    """Variables are kept between calls. Only the first result says that the session is new."""
    assert await printed(client, "x = 20; print('hello')\nx + 1") == (
        "[This is a new session: it has no variables and no files yet.]\nhello\n21"
    )
    assert await printed(client, "x * 2") == "40"
    assert await printed(client, "y = 1") == "[no output]"


async def test_conversations_share_no_variables(client: Client, service: Service) -> None:
    """A variable of one conversation is unknown in another."""
    await printed(client, "secret = 7")
    async with conversation(service) as other:
        assert "NameError" in text(await python(other, "secret"))


async def test_session_ends_with_the_conversation(service: Service) -> None:
    """When the client ends its session of the protocol, the session of the service is deleted."""
    async with conversation(service) as client:
        await printed(client, "1")
        link = links(await client.call_tool("write_file", {"path": "a", "text": "b"}))
        assert link == {}
        listed = await client.call_tool("list_files", {})
        url = listed.structured_content["files"][0]["url"]
        assert (await get(url)).content == b"b"

    async def is_gone() -> bool:
        return (await get(url)).status_code == 410

    await eventually(is_gone)
    assert (await get(url)).json()["reason"] == "deleted"


async def test_figure_is_an_image_and_file_is_a_link(client: Client) -> None:
    """A link can be read with `resources/read` and with a plain GET."""
    result = await python(
        client, f"{DRAW}\nopen('table.csv', 'w').write('a,b')\ndisplay(Image(picture(100)))"
    )
    assert len(images(result)) == 1
    assert images(result)[0].startswith(b"\x89PNG")
    address = links(result)["table.csv"]
    assert f"table.csv, 3 bytes: {address}" in text(result)
    assert (await get(address)).content == b"a,b"
    read = (await client.read_resource(address)).contents[0]
    assert read.text == "a,b"  # type: ignore[union-attr]
    assert read.mime_type == "text/csv"


async def test_failed_code_is_an_error_with_a_reason(client: Client) -> None:
    """An exception, an exit code and a signal are results with `isError`."""
    raised = await python(client, "print('before')\n1 / 0")
    assert raised.is_error
    assert "before" in text(raised)
    assert "ZeroDivisionError: division by zero" in text(raised)
    ended = await python(client, "import sys; sys.exit(3)")
    assert ended.is_error
    assert "exit code 3" in text(ended)
    died = await python(client, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert died.is_error
    assert "without variables; files are kept" in text(died)


async def test_timeout_is_an_error_and_keeps_the_variables(client: Client) -> None:
    """The result has the text so far."""
    result = await python(client, "import time; z = 3; print('go'); time.sleep(60)", timeout_seconds=2)
    assert result.is_error
    assert "go" in text(result)
    assert "the time limit was reached; variables are kept" in text(result)
    assert await printed(client, "z") == "3"


async def test_timeout_over_the_limit_is_refused_before_code_runs(client: Client) -> None:
    """The error names the limit of the service."""
    result = await python(client, "open('ran', 'w')", timeout_seconds=31)
    assert result.is_error
    assert "timeout_seconds is at most 30" in text(result)
    assert "empty" in text(await client.call_tool("list_files", {}))


async def test_running_code_reports_progress(client: Client) -> None:
    """Printed text arrives while the code runs, with increasing numbers."""
    reports: list[tuple[float, float | None, str | None]] = []

    async def receive(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))

    async def has_first_report() -> bool:
        return bool(reports)

    code = f"print('step 0', flush=True)\n{WAIT_FOR_FILE}\nprint('step 1', flush=True)\ntime.sleep(0.7)"
    arguments = {"code": code, "timeout_seconds": 25}
    call = asyncio.create_task(client.call_tool("run_python", arguments, progress_callback=receive))
    await eventually(has_first_report)
    # The code waits for this file, so it has not ended.
    await client.call_tool("write_file", {"path": "go", "text": ""})
    assert not (await call).is_error
    assert "step 0" in (reports[0][2] or "")
    assert [progress for progress, _, _ in reports] == sorted({progress for progress, _, _ in reports})
    assert {total for _, total, _ in reports} == {25}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("run_python", {"code": "open('ran', 'w')\nimport time; time.sleep(25); open('ended', 'w')"}),
        ("run_shell", {"command": "touch ran; trap '' INT; sleep 25; touch ended"}),
    ],
)
async def test_cancelled_call_is_interrupted(client: Client, name: str, arguments: dict[str, str]) -> None:
    """`notifications/cancelled` interrupts code and commands. The session keeps its variables."""
    await printed(client, "kept = 5")
    call = asyncio.create_task(client.call_tool(name, arguments))
    await eventually_there(client, "ran")
    call.cancel()
    assert await printed(client, "import os; kept, os.path.exists('ended')") == "(5, False)"


async def eventually_there(client: Client, path: str) -> None:
    """Wait until a file is in the workspace."""

    async def is_there() -> bool:
        listed = await client.call_tool("list_files", {})
        return any(file["path"] == path for file in listed.structured_content["files"])

    await eventually(is_there)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        await asyncio.sleep(0.1)


async def get(url: str) -> httpx.Response:
    """Send a plain GET."""
    return await asyncio.to_thread(httpx.get, url)


async def test_files_are_written_listed_and_read(client: Client, service: Service) -> None:
    """The content is text, base64 or an uploaded file. Missing folders are created."""
    file_id = service.api.upload(b"uploaded", "up.txt")
    for arguments in (
        {"path": "a.txt", "text": "grüße"},
        {"path": "pictures/dot.png", "base64": base64.b64encode(PNG).decode()},
        {"path": "up.txt", "file_id": file_id},
    ):
        assert not (await client.call_tool("write_file", arguments)).is_error
    listed = (await client.call_tool("list_files", {})).structured_content["files"]
    assert {file["path"]: file["size_bytes"] for file in listed} == {
        "a.txt": 7,
        "pictures/dot.png": len(PNG),
        "up.txt": 8,
    }
    assert text(await client.call_tool("read_file", {"path": "a.txt"})) == "grüße"
    assert images(await client.call_tool("read_file", {"path": "pictures/dot.png"})) == [PNG]
    assert await printed(client, "open('up.txt').read()") == "'uploaded'"
    shell = await client.call_tool("run_shell", {"command": "cat a.txt; exit 4"})
    assert shell.is_error
    assert text(shell) == "grüße\n[exit code 4]"


async def test_absolute_path_in_the_workspace_is_accepted(client: Client) -> None:
    """Models use the paths that `os.getcwd()` returns."""
    wrote = await client.call_tool("write_file", {"path": "/workspace/as/seen.txt", "text": "seen"})
    assert (wrote.structured_content or {})["path"] == "as/seen.txt"
    assert text(await client.call_tool("read_file", {"path": "/workspace/as/seen.txt"})) == "seen"
    assert (await client.call_tool("read_file", {"path": "/etc/passwd"})).is_error


async def test_binary_file_is_a_link_and_long_text_is_cut(client: Client) -> None:
    """A GET downloads the link of a binary file. The middle of a long text is left out."""
    await printed(
        client, "open('b.bin', 'wb').write(bytes(5000)); open('long.txt', 'w').write('ab' * 50_000)"
    )
    binary = await client.call_tool("read_file", {"path": "b.bin"})
    assert "5000 bytes that cannot be shown here" in text(binary)
    assert (await get(links(binary)["b.bin"])).content == bytes(5000)
    long = text(await client.call_tool("read_file", {"path": "long.txt"}))
    assert "[… 60000 characters left out …]" in long
    assert len(long) < 41_000


async def test_result_over_all_limits_still_arrives(client: Client) -> None:
    """Much text that is long as JSON, many images and many files fit into one event."""
    flood = (
        f"{DRAW}\nprint('\\1' * 500_000)\nfor i in range(8): display(Image(picture(100_000)))\n"
        "for i in range(60): open('f' * 200 + str(i), 'w')"
    )
    result = await python(client, flood)
    assert not result.is_error, text(result)[-2000:]
    assert "characters left out" in text(result)
    assert 1 <= len(images(result)) < 8
    assert "too large to be shown here; it is at http" in text(result)
    assert len(links(result)) == 32
    assert "more files: list_files lists them" in text(result)


async def test_reset_drops_variables_and_optionally_files(client: Client) -> None:
    """A reset keeps the files. With `delete_files` the next call gets a new session and a note."""
    assert "nothing to reset" in text(await client.call_tool("reset", {}))
    await printed(client, "v = 1; open('kept', 'w').write('x')")
    assert "files are kept" in text(await client.call_tool("reset", {}))
    assert await printed(client, "import os; 'v' in globals(), os.listdir()") == "(False, ['kept'])"
    await client.call_tool("reset", {"delete_files": True})
    assert "This is a new session" in await printed(client, "import os; os.listdir()")
    assert await printed(client, "os.listdir()") == "[]"


async def test_invalid_arguments_are_errors_that_name_them(client: Client) -> None:
    """The error is a result, so that the model sees it."""
    invalid: list[tuple[str, dict[str, str], str]] = [
        ("run_python", {"cod": "1"}, "code: Field required; cod: there is no such argument"),
        ("run_python", {"code": "\0"}, "NUL"),
        ("run_python", {"code": "1", "timeout_seconds": "soon"}, "timeout_seconds: Input should be a valid"),
        ("write_file", {"path": "../up", "text": ""}, "'..'"),
        ("write_file", {"path": "a"}, "exactly one of"),
        ("write_file", {"path": "a", "text": "", "base64": ""}, "exactly one of"),
        ("write_file", {"path": "a", "base64": "%%%"}, "not valid base64"),
        ("write_file", {"path": "a", "file_id": "x"}, "not found"),
        ("read_file", {"path": "missing"}, "no file 'missing'"),
    ]
    for name, arguments, words in invalid:
        result = await client.call_tool(name, arguments)
        assert result.is_error
        assert words in text(result)


async def test_descriptions_of_tools_have_schemas_limits_and_hints(client: Client) -> None:
    """Schemas are valid and simple. Descriptions name limits and libraries. Annotations have hints."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"run_python", "run_shell", "list_files", "read_file", "write_file", "reset"}
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["type"] == "object"
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False
        for field in tool.input_schema["properties"].values():
            assert isinstance(field["type"], str), f"{tool.name}: some clients accept no other kind of type"
    description = tools["run_python"].description or ""
    assert "30 s, 20 s of CPU time, 512 MiB" in description
    assert "pandas" in description
    assert tools["run_python"].input_schema["properties"]["timeout_seconds"]["maximum"] == 30
    read_only = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
    assert read_only == {"list_files", "read_file"}
    assert "30 minutes" in (client.instructions or "")


async def test_resources_are_the_files_of_the_session(client: Client) -> None:
    """The files are listed with their URIs. Reading a large or an unknown resource is an error."""
    assert (await client.list_resources()).resources == []
    await printed(client, "open('a b.txt', 'w').write('x'); open('big', 'wb').write(bytes(600_000))")
    addresses = {found.name: found.uri for found in (await client.list_resources()).resources}
    assert (await client.read_resource(addresses["a b.txt"])).contents[0].text == "x"  # type: ignore[union-attr]
    with pytest.raises(MCPError, match="get it by HTTP"):
        await client.read_resource(addresses["big"])
    assert len((await get(addresses["big"])).content) == 600_000
    for uri in ("file:///etc/passwd", f"{addresses['big']}x", "http://[::1/v1/files/x"):
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
        assert refused.value.code == -32002
    assert len((await client.list_resource_templates()).resource_templates) == 2


async def test_unknown_tool_is_an_error_of_the_protocol(client: Client) -> None:
    """A model cannot correct it, so it is not a result."""
    with pytest.raises(MCPError, match="Unknown tool: rm"):
        await client.call_tool("rm", {})


def test_client_of_an_old_version_gets_addresses_as_text(service: Service) -> None:
    """Version 2025-06-18 introduced links as content. Clients of earlier versions get none."""
    with httpx.Client(base_url=service.base_url, headers=ACCEPT, timeout=60) as http:
        opened = http.post(
            "/mcp", json=message("initialize", **INITIALIZE | {"protocolVersion": "2024-11-05"})
        )
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        answer = http.post("/mcp", json=tool_call("run_python", 2, code="open('f', 'w').write('1')")).text
        http.delete("/mcp")
    assert "/v1/files/" in answer
    assert "resource_link" not in answer


async def test_text_and_displays_are_in_the_order_they_were_made(client: Client) -> None:
    """Texts and images are blocks in order; what was cleared is gone."""
    code = (
        DRAW + "from IPython.display import clear_output\nprint('old'); clear_output(wait=True)\n"
        "print('a'); display(Image(picture(10))); print('b', end=''); display('x'); print('c'); "
        "display(Image(picture(10))); print('d')"
    )
    await python(client, "begin = 1")
    result = await python(client, code)
    assert [getattr(block, "text", "image") for block in result.content] == [
        "a",
        "image",
        "b\n'x'\nc",
        "image",
        "d",
    ]
