"""A supervisor that sends invalid responses, played by a server of the test over real TCP.

User code cannot replace the supervisor. The service does not trust it all the same.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import resource
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest

from kernel_image import contract
from sessions.containers.errors import EngineUnavailable
from sessions.kernels.cells import event_stream
from sessions.kernels.cells.event_stream import CellEventStream
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Budget, CellEvent, CellResult, Container

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BUDGET: Final = Budget(cpu_sec=1, memory_bytes=1 << 20, output_bytes=1000, display_bytes=10_000)
DEEP: Final = b"[" * 200_000 + b"]" * 200_000
GROWTH_KB: Final = 256 * 1024


def _no_engine() -> AbstractAsyncContextManager[None]:
    raise EngineUnavailable("this test has no engine")


@asynccontextmanager
async def lying(talk: Talk) -> AsyncIterator[SupervisorClient]:
    """Yield a client of a supervisor that serves each connection with `talk`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    container = Container("0", "liar", "127.0.0.1", dict.fromkeys(contract.PORTS, port))
    try:
        async with aiohttp.ClientSession() as http:
            client = SupervisorClient(http, container, "token", _no_engine)
            try:
                yield client
            finally:
                await client.close()
                if client._cells._closing is not None:
                    await asyncio.wait_for(client._cells._closing, 5)
    finally:
        server.close()


def saying(*pieces: bytes, endless: bytes = b"") -> Talk:
    """Answer a request with these bytes. Then repeat `endless` forever, or close the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
        while endless:
            writer.write(endless)
            await writer.drain()

    return talk


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    """Return an HTTP response. Its Content-Length is `length` if that is given."""
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"HTTP/1.1 " + status, size, *headers, b"", body])


def peak_kb() -> int:
    """Return the most memory that this process has had so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CALLS: Final[dict[str, Callable[[SupervisorClient], Awaitable[Any]]]] = {
    "status": lambda client: client.memory_bytes(),
    "list": lambda client: client.list_files(),
    "note": lambda client: client.last_note(),
    "kernel": lambda client: client.start_kernel("key", 5),
    "lease": lambda client: client.renew_lease(60),
}

ANSWERS: Final[dict[str, Talk]] = {
    "longer than its length": saying(answer(b'{"memory_bytes": 1', length=18) + b"}" * 1000),
    "shorter than its length": saying(answer(b"{}", length=1000)),
    "negative length": saying(answer(b"{}", length=-1)),
    "length of exabytes": saying(answer(b"", length=1 << 62), endless=b" " * 65536),
    "endless chunks": saying(CHUNKED, endless=b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "chunks without a size": saying(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "endless headers": saying(b"HTTP/1.1 200 OK\r\n", endless=b"X-A: b\r\n" * 1000),
    "endless header": saying(b"HTTP/1.1 200 OK\r\nX-A: ", endless=b"b" * 65536),
    "not HTTP": saying(b"\x00\xff" * 1000),
    "no bytes": saying(),
    "not JSON": saying(answer(b"{'a': 1}")),
    "not an object": saying(answer(b"[1, 2]")),
    "null": saying(answer(b"null")),
    "object with other names": saying(answer(b'{"a": 1, "files": 3}')),
    "values of other types": saying(
        answer(b'{"memory_bytes": [1], "note": 1, "files": [1, "x", null, {"path": {}}]}')
    ),
    "invalid numbers": saying(
        answer(b'{"memory_bytes": NaN, "files": [{"path": "a", "size_bytes": 1e999}]}')
    ),
    "numbers of five thousand digits": saying(answer(b'{"memory_bytes": ' + b"9" * 5000 + b"}")),
    "200,000 levels": saying(answer(b'{"memory_bytes": ' + DEEP + b', "files": ' + DEEP + b"}")),
    "not UTF-8": saying(answer(b"\xff\xfe\x00")),
    "gzip bomb": saying(
        answer(gzip.compress(b'{"memory_bytes": "' + b" " * 200_000_000, 1), b"Content-Encoding: gzip")
    ),
    "redirect": saying(answer(b"{}", b"Location: http://127.0.0.1:9/status", status=b"302 Found")),
    "switch to another protocol": saying(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    ),
    "endless error": saying(
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", endless=b"8\r\nerror...\r\n"
    ),
    "error that is not text": saying(answer(b"\xff" * 5000, status=b"418 \xff")),
}
"""Responses to any call, by the name of what is wrong with them."""


@pytest.mark.parametrize("lie", ANSWERS.values(), ids=ANSWERS.keys())
async def test_invalid_response_fails_as_supervisor_error(lie: Talk) -> None:
    """Every call ends soon, with `SupervisorFailed` or a value of its type, and uses little memory."""
    before, began = peak_kb(), time.monotonic()
    async with lying(lie) as client:
        ends = await asyncio.gather(*(call(client) for call in CALLS.values()), return_exceptions=True)
    assert all(isinstance(end, SupervisorFailed | int | list | str | None) for end in ends), ends
    assert any(isinstance(end, SupervisorFailed) and len(str(end)) < 5000 for end in ends)
    assert time.monotonic() - began < 60
    assert peak_kb() - before < GROWTH_KB


async def test_call_to_silent_supervisor_fails_in_time() -> None:
    """Every call waits for ten seconds at most."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/lease" in head:
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                await asyncio.sleep(0.01)
        await asyncio.sleep(600)

    async def begin(client: SupervisorClient) -> None:
        async with client.begin_cell("0", BUDGET):
            pass

    calls = [*CALLS.values(), begin, SupervisorClient.kill_kernel, SupervisorClient.interrupt]
    began = time.monotonic()
    async with lying(silent) as client:
        ends = await asyncio.gather(*(call(client) for call in calls), return_exceptions=True)
    assert [type(end) for end in ends] == [SupervisorFailed] * len(calls)
    assert time.monotonic() - began < 60


FILES: Final[dict[str, Talk]] = {
    "stops in the middle": saying(answer(b"x" * 1000, length=2000)),
    "endless": saying(CHUNKED, endless=b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "broken chunks": saying(CHUNKED + b"5\r\nxxxxx\r\n-5\r\nx"),
}


@pytest.mark.parametrize("lie", FILES.values(), ids=FILES.keys())
async def test_invalid_file_fails_or_can_be_read_in_part(lie: Talk) -> None:
    """A file is read piece by piece, and the reader decides how much."""
    before = peak_kb()

    async def read(client: SupervisorClient) -> Any:
        size = 0
        async with client.open_file("a") as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > 50_000_000:
                    return 50_000_000
        return size

    async with lying(lie) as client:
        ends = await asyncio.gather(read(client), return_exceptions=True)
    assert isinstance(ends[0], SupervisorFailed | int)
    assert peak_kb() - before < GROWTH_KB


# Cells -------------------------------------------------------------------------------------------


def message(payload: bytes, opcode: int = 2) -> bytes:
    """Return a whole WebSocket message from a server (RFC 6455)."""
    size = len(payload)
    length = bytes([size]) if size < 126 else struct.pack("!BQ", 127, size)
    return bytes([0x80 | opcode]) + length + payload


def frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """Return a frame of a cell. Its header says `length` if that is given."""
    return struct.pack(contract.FRAME_HEADER, kind, len(payload) if length is None else length) + payload


END: Final[dict[str, Any]] = {
    "stdout_bytes": 0,
    "stderr_bytes": 0,
    "exit": None,
    "cpu_seconds": 0.0,
    "changed": [],
    "skipped": [],
    "left_out": 0,
}
DEATH: Final = {"status": 0, "out_of_memory": False, "over_cpu_limit": False}


def ended(**changes: Any) -> bytes:
    """Return a last frame with these fields changed."""
    return message(frame(contract.FRAME_END, json.dumps(END | {"exit": DEATH} | changes).encode()))


def cell(*pieces: bytes, taken: bytes = message(b"{}", 1), endless: bytes = b"") -> Talk:
    """Accept a cell as a supervisor does, and then send these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Sec-WebSocket-Key" not in head:
            writer.write(answer(b"{}"))
            return
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
        )
        await reader.read(1)
        for piece in (taken, *pieces):
            writer.write(piece)
        while endless:
            writer.write(endless)
            await writer.drain()
        while (data := await reader.read(1000)) and not data.startswith(b"\x88"):
            pass

    return talk


TEXT: Final = message(frame(contract.FRAME_STDOUT, b"x" * 100))
CELLS: Final[dict[str, Talk]] = {
    "answer that is not an object": cell(taken=message(b"[]", 1)),
    "answer that is not JSON": cell(taken=message(b"{", 1)),
    "answer of 200,000 levels": cell(taken=message(DEEP, 1)),
    "binary answer": cell(taken=message(b"{}")),
    "answer that is not UTF-8": cell(taken=message(b"\xff\xfe", 1)),
    "refusal without a status": cell(taken=message(b'{"error": "no"}', 1)),
    "refusal with other types": cell(taken=message(b'{"error": {"a": 1}, "status": "teapot"}', 1)),
    "close frame": cell(taken=message(b"\x03\xe8", 8)),
    "message with reserved bits": cell(b"\xf2\x05\x01\x00\x00\x00\x00"),
    "message of exabytes": cell(b"\x82\x7f" + b"\x7f" * 8, endless=bytes(65536)),
    "message of 80 MB": cell(message(frame(contract.FRAME_STDOUT, bytes(80_000_000)))),
    "endless pieces of a message": cell(b"\x02\x01x", endless=b"\x00\x7e\xff\xff" + bytes(65535)),
    "text message instead of frames": cell(message(b"{}", 1)),
    "half a frame header": cell(message(b"\x01\x00")),
    "frame longer than its message": cell(message(frame(contract.FRAME_STDOUT, b"x", length=100))),
    "frame of 4 GB": cell(message(frame(contract.FRAME_STDOUT, b"x", length=(1 << 32) - 1))),
    "more text than the budget": cell(message(frame(contract.FRAME_STDOUT, b"x" * 1001)), ended()),
    "endless text": cell(endless=TEXT),
    "end that is not JSON": cell(message(frame(contract.FRAME_END, b"{"))),
    "end that is not an object": cell(message(frame(contract.FRAME_END, b"7"))),
    "end of 200,000 levels": cell(message(frame(contract.FRAME_END, DEEP))),
    "empty end": cell(message(frame(contract.FRAME_END, b"{}"))),
    "end with negative sizes": cell(ended(stdout_bytes=-1)),
    "end with other types": cell(ended(changed=[1], skipped="x")),
    "invalid exit status": cell(ended(exit={"status": "x"})),
    "invalid path": cell(ended(changed=[{"path": 7, "size_bytes": 1}])),
    "invalid size": cell(ended(changed=[{"path": "a", "size_bytes": 10**30}])),
    "invalid CPU time": cell(ended(cpu_seconds=[1])),
    "end of the connection": cell(b"\x88\x00"),
}
"""Invalid frames of a cell, by the name of what is wrong with them."""

HARMLESS_CELLS: Final[dict[str, Talk]] = {
    "masked answer": cell(ended(), taken=b"\x81\x82\x00\x00\x00\x00{}"),
    "unknown kinds of frames": cell(message(frame(99, b"x") * 1000), ended()),
    "invalid events": cell(
        *(message(frame(contract.FRAME_EVENT, event)) for event in (DEEP, b"{", b"\xff", b"[]", b"")), ended()
    ),
    "text after the end": cell(ended(), TEXT * 1000),
    "more text than was written": cell(TEXT, ended(stdout_bytes=1)),
}
"""Deviations from the protocol that do no harm."""


async def _events(lie: Talk) -> list[CellEvent]:
    async with lying(lie) as client, client.begin_cell("0", BUDGET, command="true") as frames:
        stream = CellEventStream.of_command(client, BUDGET, 0.5)
        return [event async for event in stream.events(frames)]


@pytest.mark.parametrize("lie", CELLS.values(), ids=CELLS.keys())
async def test_invalid_frames_of_a_cell_fail_as_supervisor_error(lie: Talk) -> None:
    """The cell ends soon, with `SupervisorFailed` and no other error, and uses little memory."""
    before = peak_kb()
    with pytest.raises(SupervisorFailed):
        await _events(lie)
    assert peak_kb() - before < GROWTH_KB


@pytest.mark.parametrize("deviation", HARMLESS_CELLS.values(), ids=HARMLESS_CELLS.keys())
async def test_cell_with_harmless_deviations_has_a_result(deviation: Talk) -> None:
    """Unknown or superfluous data is skipped."""
    result = (await _events(deviation))[-1]
    assert isinstance(result, CellResult)
    assert result.exit_code == 0


async def test_cell_without_an_end_fails_after_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service interrupts the cell, and gives up when its last frame does not follow."""
    monkeypatch.setattr(event_stream, "_TEXT_SEC", 1.0)
    with pytest.raises(SupervisorFailed):
        await asyncio.wait_for(_events(cell(TEXT)), 60)
