"""A supervisor that lies. The code can't be one: here a server of the test's own plays it, over real TCP."""

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
from sessions.kernels.marks import MarkFinder
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Budget, CellEvent, CellResult, Container

pytestmark = pytest.mark.timeout(90)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BUDGET: Final = Budget(cpu_sec=1, memory_bytes=1 << 20, output_bytes=1000, display_bytes=10_000)
DEEP: Final = b"[" * 200_000 + b"]" * 200_000
GROWTH_KB: Final = 256 * 1024


def _no_engine() -> AbstractAsyncContextManager[None]:
    raise EngineUnavailable("there is none here")


@asynccontextmanager
async def lying(talk: Talk) -> AsyncIterator[SupervisorClient]:
    """A client of a supervisor that answers each connection with `talk`."""

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
    """Answer a request with these bytes, and then with `endless` without end, or hang up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
        while endless:
            writer.write(endless)
            await writer.drain()

    return talk


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    """An HTTP response, of another `length` than it says if that is given."""
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"HTTP/1.1 " + status, size, *headers, b"", body])


def peak_kb() -> int:
    """The most memory this process has ever had."""
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
    "longer than it says it is": saying(answer(b'{"memory_bytes": 1', length=18) + b"}" * 1000),
    "shorter than it says it is": saying(answer(b"{}", length=1000)),
    "of negative length": saying(answer(b"{}", length=-1)),
    "of exabytes": saying(answer(b"", length=1 << 62), endless=b" " * 65536),
    "in chunks without end": saying(CHUNKED, endless=b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "in chunks of no size": saying(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "of headers without end": saying(b"HTTP/1.1 200 OK\r\n", endless=b"X-A: b\r\n" * 1000),
    "of one header without end": saying(b"HTTP/1.1 200 OK\r\nX-A: ", endless=b"b" * 65536),
    "in no protocol": saying(b"\x00\xff" * 1000),
    "of nothing": saying(),
    "no JSON": saying(answer(b"{'a': 1}")),
    "no object": saying(answer(b"[1, 2]")),
    "null": saying(answer(b"null")),
    "an object of other names": saying(answer(b'{"a": 1, "files": 3}')),
    "of other types": saying(
        answer(b'{"memory_bytes": [1], "note": 1, "files": [1, "x", null, {"path": {}}]}')
    ),
    "numbers that are none": saying(
        answer(b'{"memory_bytes": NaN, "files": [{"path": "a", "size_bytes": 1e999}]}')
    ),
    "numbers of five thousand digits": saying(answer(b'{"memory_bytes": ' + b"9" * 5000 + b"}")),
    "nested without end": saying(answer(b'{"memory_bytes": ' + DEEP + b', "files": ' + DEEP + b"}")),
    "no text": saying(answer(b"\xff\xfe\x00")),
    "a bomb in gzip": saying(
        answer(gzip.compress(b'{"memory_bytes": "' + b" " * 200_000_000, 1), b"Content-Encoding: gzip")
    ),
    "another address": saying(answer(b"{}", b"Location: http://127.0.0.1:9/status", status=b"302 Found")),
    "another protocol": saying(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    ),
    "an error without end": saying(
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", endless=b"8\r\nerror...\r\n"
    ),
    "an error that is no text": saying(answer(b"\xff" * 5000, status=b"418 \xff")),
}
"""What it answers to any call."""


@pytest.mark.parametrize("lie", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_lie_is_a_failure_of_the_container(lie: Talk) -> None:
    """Every call ends soon, with `SupervisorFailed` or a value of its type, and holds little."""
    before, began = peak_kb(), time.monotonic()
    async with lying(lie) as client:
        ends = await asyncio.gather(*(call(client) for call in CALLS.values()), return_exceptions=True)
    assert all(isinstance(end, SupervisorFailed | int | list | str | None) for end in ends), ends
    assert any(isinstance(end, SupervisorFailed) and len(str(end)) < 5000 for end in ends)
    assert time.monotonic() - began < 60
    assert peak_kb() - before < GROWTH_KB


async def test_silence_is_a_failure_of_the_container() -> None:
    """Whoever does not answer is waited for no longer than ten seconds, by every call."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/lease" in head:
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                await asyncio.sleep(0.01)
        await asyncio.sleep(60)

    async def begin(client: SupervisorClient) -> None:
        async with client.begin_cell("0", BUDGET):
            pass

    calls = [*CALLS.values(), begin, SupervisorClient.kill_kernel, SupervisorClient.interrupt]
    began = time.monotonic()
    async with lying(silent) as client:
        ends = await asyncio.gather(*(call(client) for call in calls), return_exceptions=True)
    assert [type(end) for end in ends] == [SupervisorFailed] * len(calls)
    assert time.monotonic() - began < 20


FILES: Final[dict[str, Talk]] = {
    "that stops in the middle": saying(answer(b"x" * 1000, length=2000)),
    "without end": saying(CHUNKED, endless=b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "in broken chunks": saying(CHUNKED + b"5\r\nxxxxx\r\n-5\r\nx"),
}


@pytest.mark.parametrize("lie", FILES.values(), ids=FILES.keys())
async def test_a_file_that_is_none_is_a_failure_or_has_an_end(lie: Talk) -> None:
    """It is read piece by piece: who reads decides how much."""
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
    """A whole WebSocket message from a server (RFC 6455)."""
    size = len(payload)
    length = bytes([size]) if size < 126 else struct.pack("!BQ", 127, size)
    return bytes([0x80 | opcode]) + length + payload


def frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """A frame of a cell, of another `length` than it says if that is given."""
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
    """A last frame; `changes` are the lies in it."""
    return message(frame(contract.FRAME_END, json.dumps(END | {"exit": DEATH} | changes).encode()))


def cell(*pieces: bytes, taken: bytes = message(b"{}", 1), endless: bytes = b"") -> Talk:
    """Take a cell as a supervisor does, and then send these bytes."""

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
    "an answer that is no object": cell(taken=message(b"[]", 1)),
    "an answer that is no JSON": cell(taken=message(b"{", 1)),
    "an answer nested without end": cell(taken=message(DEEP, 1)),
    "an answer in bytes": cell(taken=message(b"{}")),
    "an answer that is no text": cell(taken=message(b"\xff\xfe", 1)),
    "a refusal without a status": cell(taken=message(b'{"error": "no"}', 1)),
    "a refusal of another kind": cell(taken=message(b'{"error": {"a": 1}, "status": "teapot"}', 1)),
    "a goodbye": cell(taken=message(b"\x03\xe8", 8)),
    "a message of reserved bits": cell(b"\xf2\x05\x01\x00\x00\x00\x00"),
    "a message of exabytes": cell(b"\x82\x7f" + b"\x7f" * 8, endless=bytes(65536)),
    "a message of eighty megabytes": cell(message(frame(contract.FRAME_STDOUT, bytes(80_000_000)))),
    "pieces of a message without end": cell(b"\x02\x01x", endless=b"\x00\x7e\xff\xff" + bytes(65535)),
    "text where frames should be": cell(message(b"{}", 1)),
    "half a header": cell(message(b"\x01\x00")),
    "a frame longer than its message": cell(message(frame(contract.FRAME_STDOUT, b"x", length=100))),
    "a frame of four gigabytes": cell(message(frame(contract.FRAME_STDOUT, b"x", length=(1 << 32) - 1))),
    "more text than asked for": cell(message(frame(contract.FRAME_STDOUT, b"x" * 1001)), ended()),
    "text without end": cell(endless=TEXT),
    "an end that is no JSON": cell(message(frame(contract.FRAME_END, b"{"))),
    "an end that is no object": cell(message(frame(contract.FRAME_END, b"7"))),
    "an end nested without end": cell(message(frame(contract.FRAME_END, DEEP))),
    "an end without anything": cell(message(frame(contract.FRAME_END, b"{}"))),
    "an end of negative sizes": cell(ended(stdout_bytes=-1)),
    "an end of other types": cell(ended(changed=[1], skipped="x")),
    "a status that is none": cell(ended(exit={"status": "x"})),
    "a path that is none": cell(ended(changed=[{"path": 7, "size_bytes": 1}])),
    "a size that is none": cell(ended(changed=[{"path": "a", "size_bytes": 10**30}])),
    "times that are none": cell(ended(cpu_seconds=[1])),
    "the end of the connection": cell(b"\x88\x00"),
}
"""What it says of a cell."""

TRUE_CELLS: Final[dict[str, Talk]] = {
    "a masked answer": cell(ended(), taken=b"\x81\x82\x00\x00\x00\x00{}"),
    "unknown frames": cell(message(frame(99, b"x") * 1000), ended()),
    "events that are none": cell(
        *(message(frame(contract.FRAME_EVENT, event)) for event in (DEEP, b"{", b"\xff", b"[]", b"")), ended()
    ),
    "words after the end": cell(ended(), TEXT * 1000),
    "more text than was written": cell(TEXT, ended(stdout_bytes=1)),
}
"""Oddities that do not hurt."""


async def _events(lie: Talk) -> list[CellEvent]:
    async with lying(lie) as client, client.begin_cell("0", BUDGET, command="true") as frames:
        execution = CellEventStream.of_command(client, MarkFinder("key"), BUDGET, 0.5)
        return [event async for event in execution.events(frames)]


@pytest.mark.parametrize("lie", CELLS.values(), ids=CELLS.keys())
async def test_a_lie_about_a_cell_is_a_failure_of_the_container(lie: Talk) -> None:
    """The cell ends soon, with `SupervisorFailed` and nothing else, and holds little."""
    before, began = peak_kb(), time.monotonic()
    with pytest.raises(SupervisorFailed):
        await _events(lie)
    assert time.monotonic() - began < 20
    assert peak_kb() - before < GROWTH_KB


@pytest.mark.parametrize("odd", TRUE_CELLS.values(), ids=TRUE_CELLS.keys())
async def test_what_is_only_odd_has_a_result(odd: Talk) -> None:
    """What was not agreed on and does not matter is passed over."""
    result = (await _events(odd))[-1]
    assert isinstance(result, CellResult)
    assert result.exit_code == 0


async def test_a_cell_without_an_end_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing of a cell any more is asked to stop it, and is then given up."""
    monkeypatch.setattr(event_stream, "_TEXT_SEC", 1.0)
    began = time.monotonic()
    with pytest.raises(SupervisorFailed):
        await asyncio.wait_for(_events(cell(TEXT)), 30)
    assert time.monotonic() - began < 15
