"""The server as a process: its output when it starts or fails to start, and how it stops."""

import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.http.server.serving import bind
from service.operations.banner import banner, base_url
from service.operations.errors import AddressUnavailable
from service.operations.pool_settings import REUSE

ROOT = Path(__file__).resolve().parents[2]

# The file API as a program; its lifespan does what FAIL says before and after it serves.
PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import APIRouter
from service.app import create_app
from service.telemetry.logs import configure_logging
from service.http.server.serving import bind, serve
from service.database.errors import RegistryTooNew
from tests.routes.files_support import file_store
from tests.support.settings import make_settings

folder, port, start = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
slow = APIRouter()

@slow.get("/slow")
async def wait():
    print("under way", flush=True)
    await asyncio.sleep(1)
    return "done"

@asynccontextmanager
async def lifespan(app):
    if start == "sentence":
        raise RegistryTooNew("9999")
    if start == "traceback":
        raise RuntimeError("unforeseen")
    async with file_store(app.state.settings) as store:
        app.state.files = store
        if start == "late":
            await asyncio.sleep(1)
        yield
    print("closed", flush=True)

configure_logging("INFO")
app = create_app(make_settings(folder), lifespan, [slow])
with bind("127.0.0.1", port) as sock:
    serve(app, "127.0.0.1", sock)
"""


class Program:
    """The program above as a process. Its output goes to files."""

    def __init__(self, folder: Path, start: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), str(self.port), start],
                cwd=ROOT,
                stdout=out,
                stderr=err,
            )

    def out(self) -> str:
        """Return standard output so far."""
        return self._out.read_text()

    def err(self) -> str:
        """Return standard error so far."""
        return self._err.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until the output contains a text."""
        deadline = time.monotonic() + 20
        while text not in self.out() + self.err():
            assert time.monotonic() < deadline, self.out() + self.err()
            time.sleep(0.02)


@contextmanager
def running(folder: Path, start: str = "well") -> Iterator[Program]:
    """Run the program until the block ends."""
    program = Program(folder, start)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


def test_banner_shows_the_address_and_a_command(tmp_path: Path) -> None:
    """The banner is printed once the server accepts connections."""
    with running(tmp_path) as program:
        program.wait_for("curl")
        assert f"is up at {program.url}" in program.out()
        assert f"{program.url}/docs" in program.out()
        assert httpx.get(f"{program.url}/openapi.json").status_code == 200
        program.wait_for('"GET /openapi.json" 200')
        for line in program.err().splitlines():
            date, _, level, logger, *_ = line.split()
            assert (len(date), level) == (10, "INFO")
            assert logger.startswith(("uvicorn", "service"))


@pytest.mark.parametrize("needs_key", [False, True])
def test_command_in_the_banner_is_valid_in_a_shell(needs_key: bool) -> None:
    """The command is one line. Its last word is JSON with the code; the key is included if needed."""
    lines = banner("0.0.0.0", 8000, needs_key=needs_key).splitlines()
    (command,) = (line for line in lines if line.startswith("curl "))
    words = shlex.split(command)
    assert words[2] == "http://127.0.0.1:8000/v1/execute"
    request = httpx.Response(200, content=words[-1]).json()
    compile(request["code"], "example", "exec")
    assert ("X-API-Key: $KEY" in words) == needs_key


def test_banner_says_when_to_choose_the_other_mode_of_reuse() -> None:
    """The banner has the sentence that `/ready` has, too."""
    for mode, other in (("tenant", "never"), ("never", "tenant")):
        assert f"CONTAINER_REUSE={other}" in REUSE[mode]
        assert f"\n  {REUSE[mode]}\n" in banner("0.0.0.0", 8000, reuse=REUSE[mode])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_clients_can_use_the_address_in_the_banner(host: str, expected: str) -> None:
    """The loopback address replaces the wildcard addresses. IPv6 addresses have brackets."""
    assert base_url(host, 80) == expected


def test_port_in_use_is_reported_in_one_sentence() -> None:
    """The error names the address and the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressUnavailable, match=f"port {port}: Address already in use"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["256.0.0.1", "192.0.2.1", "no such host"])
def test_host_of_another_machine_is_reported_in_one_sentence(host: str) -> None:
    """Unknown names and addresses of other machines give an error that names the settings."""
    with pytest.raises(AddressUnavailable, match="Set HOST and PORT"):
        bind(host, 0)


def test_port_taken_during_the_start_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """The service closes what it has opened, and exits with status 1."""
    with running(tmp_path, "late") as program, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        program.wait_for("Waiting for application startup")
        other.bind(("127.0.0.1", program.port))
        other.listen()
        assert program.process.wait(20) == 1
        assert f"Cannot listen on 127.0.0.1, port {program.port}" in program.err()
        assert "Traceback" not in program.err()
        assert program.out() == "closed\n"


def test_known_error_during_the_start_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """The log has the message of the error, without a traceback."""
    with running(tmp_path, "sentence") as program:
        assert program.process.wait(20) != 0
        assert "schema revision 9999" in program.err()
        assert "Traceback" not in program.err()
        assert program.out() == ""


def test_unknown_error_during_the_start_is_logged_with_a_traceback(tmp_path: Path) -> None:
    """The log has the exception and its traceback."""
    with running(tmp_path, "traceback") as program:
        assert program.process.wait(20) != 0
        assert "RuntimeError: unforeseen" in program.err()
        assert "Traceback" in program.err()


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_server_stops_in_order(tmp_path: Path, with_signal: signal.Signals) -> None:
    """A running request is answered, and then the lifespan is closed."""
    with running(tmp_path) as program:
        program.wait_for("curl")
        with socket.create_connection(("127.0.0.1", program.port)) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            program.wait_for("under way")
            program.process.send_signal(with_signal)
            client.settimeout(10)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        assert answer.endswith(b'"done"')
        program.process.wait(20)
        assert program.out().endswith("closed\n")
