"""The MCP inspector's command line, with which many users first try a server. It needs Node."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.command import PROGRAM
from tests.support.process import ROOT, Service

MIN_NODE = 20
INSPECTOR = ROOT / ".cache/inspector/node_modules/.bin/mcp-inspector"


def _node_version() -> int:
    """Return Node's major version, or 0 if Node or npm is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        return 0
    printed = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    found = re.match(r"v(\d+)\.", printed)
    return int(found[1]) if found else 0


pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        _node_version() < MIN_NODE, reason=f"Node {MIN_NODE} or newer with npm is not installed"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _inspector(service: Service) -> Iterator[None]:
    """Install the inspector, once for all runs, and delete the sessions that it leaves open.

    The inspector may kill a program before that has ended its session.
    """
    ended = subprocess.run([ROOT / "scripts/setup-inspector"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    yield
    for left in service.api.http.get("/v1/sessions").json()["sessions"]:
        service.api.http.delete(f"/v1/sessions/{left['session_id']}")


def inspect(home: Path, *arguments: str) -> Any:
    """Run the inspector and return the JSON that it prints. It stores its settings in `home`."""
    ended = subprocess.run(
        [INSPECTOR, "--cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


def test_inspector_lists_the_tools_without_warnings(service: Service, tmp_path: Path) -> None:
    """`--strict` reports schemas that some models or clients cannot use."""
    listed = inspect(tmp_path, f"{service.base_url}/mcp", "--method", "tools/list", "--strict")
    assert "run_python" in {tool["name"] for tool in listed["tools"]}


def test_inspector_calls_a_tool_and_reads_its_file(service: Service, tmp_path: Path) -> None:
    """The inspector uses streamable HTTP and a key in a header. A second run reads the link in the result."""

    url = f"{service.base_url}/mcp"
    code = "code=open('out.txt', 'w').write('made'); print(6 * 7)"
    key = ("--header", "Authorization: Bearer not-needed-here")
    called = inspect(
        tmp_path, url, *key, "--method", "tools/call", "--tool-name", "run_python", "--tool-arg", code
    )
    assert called["isError"] is False
    assert "\n42\n" in called["content"][0]["text"]
    [link] = [block for block in called["content"] if block["type"] == "resource_link"]
    read = inspect(tmp_path, url, *key, "--method", "resources/read", "--uri", link["uri"])
    assert read["contents"][0]["text"] == "made"


def test_inspector_starts_the_program_and_calls_a_tool(service: Service, tmp_path: Path) -> None:
    """The program is `code-interpreter mcp`."""
    called = inspect(
        tmp_path,
        *(str(PROGRAM), "mcp", "-e", f"CODE_INTERPRETER_URL={service.base_url}"),
        *("--method", "tools/call", "--tool-name", "run_shell", "--tool-arg", "command=echo $((6 * 7))"),
    )
    assert "42" in called["content"][0]["text"]
