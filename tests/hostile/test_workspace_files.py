"""Tests of hostile files: links are not followed, sizes are limited, and omissions are reported."""

from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.conftest import docker_only
from tests.hostile.conftest import MEGABYTE
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session

pytestmark = pytest.mark.usefixtures("canary")

WORKSPACE_BYTES = 32 * MEGABYTE
MOST_FILES = 64


def skipped(result: Body) -> dict[str, str]:
    """Return the skipped files: path to reason."""
    return {file["path"]: file["reason"] for file in result["skipped_files"]}


def returned(result: Body) -> set[str]:
    """Return the paths of the returned files."""
    return {file["path"] for file in result["files"]}


def ran(session: Session, code: str) -> Body:
    """Run code that must succeed, and return its result."""
    result = session.run(dedent(code), timeout_ms=25_000)
    assert result["exit_code"] == 0, result["stderr"]
    return result


def test_links_and_special_files_are_reported_and_not_followed(session: Session) -> None:
    """Links, pipes and sockets are reported with a reason. Devices cannot be made. Folders are left out."""
    result = ran(
        session,
        """
        import os, socket, stat
        os.symlink("/etc/passwd", "passwd")
        os.symlink("/proc/1/environ", "environ")
        os.symlink("/proc/self/fd", "descriptors")
        os.symlink("real", "alias")
        os.symlink("loop", "loop")
        os.mkfifo("pipe")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("socket")
        os.makedirs("empty/folders")
        for kind in (stat.S_IFBLK, stat.S_IFCHR):
            try: os.mknod("device", kind | 0o600, os.makedev(1, 5))
            except PermissionError: print("refused")
        try: os.link("/etc/passwd", "hard")
        except OSError: print("refused")
        with open("real", "w") as file: count = file.write("real")
        """,
    )
    assert result["stdout"] == "refused\n" * 3
    assert returned(result) == {"real"}
    names = {"passwd", "environ", "descriptors", "alias", "loop", "pipe", "socket"}
    assert skipped(result) == dict.fromkeys(names, "not a regular file")
    for name in names - {"socket"}:
        assert 400 <= session.file("GET", name).status_code < 500


def test_a_sparse_file_of_a_terabyte_is_refused(session: Session) -> None:
    """A sparse file cannot be larger than the disks. One that is too large to return is reported."""
    result = ran(
        session,
        """
        for size in (1 << 40, 1 << 62, 45 << 20):
            try:
                with open("sparse", "wb") as file: end = file.truncate(size)
            except OSError as error: print(type(error).__name__)
        """,
    )
    assert result["stdout"] == "OSError\n" * 2
    assert result["skipped_files"][0]["size_bytes"] == 45 * MEGABYTE
    assert "File size exceeds" in skipped(result)["sparse"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            "for n in range(30):\n    with open(f'f{n:02}', 'wb') as f: f.truncate(3 << 20)",
            id="sparse files",
        ),
        pytest.param(
            "import os\nwith open('f00', 'wb') as f: f.write(bytes(3 << 20))\n"
            "for n in range(1, 30): os.link('f00', f'f{n:02}')",
            id="thirty names of one file",
        ),
    ],
)
def test_returned_files_are_no_larger_than_the_workspace(session: Session, make: str) -> None:
    """Files of ninety megabytes that take little room in the workspace do not fill the service's disk."""
    result = ran(session, make)
    assert sum(file["size_bytes"] for file in result["files"]) <= WORKSPACE_BYTES
    assert len(result["files"]) == 10
    left_out = skipped(result)
    assert len(left_out) == 20
    assert all("WORKSPACE_SIZE_MB" in reason for reason in left_out.values())


def test_a_file_that_grows_while_it_is_read_does_not_hold_the_call(session: Session) -> None:
    """The call ends. The beginning of the file is returned, or the file is reported."""
    result = ran(
        session,
        """
        import subprocess, sys, time
        grow = "import os\\nwhile True:\\n  with open('log', 'ab') as f: f.write(b'x' * 1000)\\n"
        grow += "  if os.path.getsize('log') > 3_000_000: os.truncate('log', 10)"
        writer = subprocess.Popen([sys.executable, "-c", grow])
        time.sleep(0.3)
        """,
    )
    assert returned(result) | set(skipped(result)) == {"log"}
    for _ in range(5):
        try:
            response = session.file("GET", "log")
        except httpx.RemoteProtocolError:
            continue  # The file has shrunk, so the service cuts the transfer.
        assert response.status_code in (200, 404, 503)
        assert set(response.content) <= {ord("x")} or response.status_code != 200
    session.restart()


def test_an_upload_does_not_follow_a_link_that_code_swaps_in(session: Session) -> None:
    """Nothing is written outside the workspace, however the path changes during an upload."""
    ran(
        session,
        """
        import os, subprocess, sys, time
        os.makedirs("/tmp/outside", exist_ok=True)
        swap = '''
        import os
        while True:
            try:
                os.makedirs("box", exist_ok=True)
                os.rename("box", "box2")
                os.symlink("/tmp/outside", "box")
                os.remove("box")
                os.rename("box2", "box")
            except OSError:
                pass
        '''
        import textwrap
        swapper = subprocess.Popen([sys.executable, "-c", textwrap.dedent(swap)])
        time.sleep(0.3)
        """,
    )
    for number in range(40):
        response = session.file("PUT", f"box/{number}", content=b"x" * 1000)
        assert response.status_code in (201, 404, 422), response.text
        assert session.file("GET", f"box/{number}").status_code in (200, 404, 422)
    assert session.printed("swapper.kill(); print(os.listdir('/tmp/outside'))") == "[]"


@docker_only("a pod's folders have no limit of files: test_too_many_files_end_the_call_and_can_be_deleted")
def test_each_of_very_many_files_is_returned_or_reported(session: Session, target: Service) -> None:
    """Each file that the disk can hold is returned, listed as skipped, or counted among the rest."""
    result = ran(
        session,
        """
        made = 0
        try:
            for made in range(100_000): open(f"f{made}", "w").close()
        except OSError as error: print(made, error.strerror)
        """,
    )
    made = int(result["stdout"].split()[0])
    assert 10_000 < made < 100_000
    assert len(result["files"]) == MOST_FILES
    counted = int(skipped(result)["..."].split()[0])
    assert len(result["files"]) + len(result["skipped_files"]) - 1 + counted == made
    assert len(session.files()) <= 10_000
    assert target.api.http.get("/health").json()["status"] == "ok"


def test_a_tree_four_thousand_folders_deep_is_cut(session: Session) -> None:
    """The scan goes as deep as files can be staged. The rest is reported as one entry."""
    result = ran(
        session,
        """
        import os
        for depth in range(4096):
            os.mkdir("d"); os.chdir("d")
            if depth in (3, 4000): open("file", "w").close()
        os.chdir("/workspace")
        """,
    )
    assert returned(result) == {"d/d/d/d/file"}
    assert skipped(result) == {"/".join("d" * 64): "deeper than 64 folders"}
    assert set(session.files()) == {"d/d/d/d/file"}


def test_a_tree_five_thousand_folders_wide_is_read(session: Session) -> None:
    """A file in each of five thousand folders is found, because the scan does not keep all folders open."""
    result = ran(
        session,
        """
        import os
        for number in range(5000):
            os.mkdir(f"d{number}")
            open(f"d{number}/file", "w").close()
        """,
    )
    assert len(result["files"]) == MOST_FILES
    assert len(result["skipped_files"]) == 5000 - MOST_FILES
    assert set(skipped(result).values()) == {f"more than MAX_OUTPUT_FILES={MOST_FILES} files"}


@pytest.mark.parametrize("name", ["n" * 250, ",[{" * 80, "\\x01" * 250, "\\u2028" * 80])
def test_paths_of_fifteen_thousand_bytes_are_reported(session: Session, name: str) -> None:
    """Three thousand files beneath sixty long names do not make the answer too large to send."""
    result = ran(
        session,
        f"""
        import os
        for depth in range(60):
            for number in range(50): open(f"f{{number}}", "w").close()
            os.mkdir("{name}"); os.chdir("{name}")
        os.chdir("/workspace")
        """,
    )
    assert len(result["files"]) == MOST_FILES
    reasons = set(skipped(result).values())
    assert "path of more than 1024 bytes" in reasons
    assert max(len(path) for path in skipped(result)) <= 1025


NAMES = {
    "a new line": "two\\nlines",
    "headers": "x\\r\\nSet-Cookie: a=b\\r\\n\\r\\n",
    "every control character": "".join(f"\\x{number:02x}" for number in range(1, 32)),
    "right to left": "\\u202egpj.exe",
    "two hundred and fifty-five bytes": "n" * 255,
    "dots": "...",
    "shell syntax": "-rf *; $(id) `id` | & > <",
    "quotes": '\\"\'\\\\\\"',
    "per cent": "%2e%2e%2f%00",
    "spaces": "  a  ",
    "combining characters": "e\\u0301\\u0301\\ufeff",
    "outside the first plane": "\\U0001f4a3",
    "the name of a part": ".upload-part-0123456789abcdef",
}
"""Names that files can have, as Python source spells them."""


@pytest.mark.parametrize("spelled", NAMES.values(), ids=NAMES.keys())
def test_a_hostile_file_name_is_returned_unchanged(session: Session, target: Service, spelled: str) -> None:
    """The name is unchanged in the answer and in the list, and a download has no header injected."""
    name = spelled.encode("ascii").decode("unicode_escape")
    result = ran(session, f'with open("{spelled}", "w") as file: count = file.write("x")')
    assert returned(result) == {name}
    assert set(session.files()) == {name}
    stored = target.api.http.get(f"/v1/files/{result['files'][0]['file_id']}")
    for response in (stored, session.call("GET", f"/files/{quoted(name)}")):
        assert (response.status_code, response.content) == (200, b"x")
        assert "set-cookie" not in response.headers
        assert response.headers["content-disposition"].startswith("attachment; ")
    assert session.call("DELETE", f"/files/{quoted(name)}").status_code == 204


def quoted(name: str) -> str:
    """Return the name with every byte percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


def test_names_that_are_not_utf_8_are_reported(session: Session) -> None:
    """Names that are not UTF-8, or end within a character, are reported with escapes."""
    result = ran(
        session,
        r"""
        import os
        for name in (b"\xff\xfe", b"\xed\xa0\x80", b"good-\xc3"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        try: open("n" * 300, "w")
        except OSError as error: print(error.strerror)
        """,
    )
    assert result["stdout"] == "File name too long\n"
    assert (result["files"], set(skipped(result).values())) == ([], {"name is not UTF-8"})
    assert len(skipped(result)) == 3
    assert session.files() == {}


BAD_PATHS: dict[str, Any] = {
    "three hundred bytes": "n" * 300,
    "four thousand folders": "/".join("d" * 4096),
    "a folder up": "%2e%2e/%2e%2e/etc/passwd",
    "absolute": "%2fetc%2fpasswd",
    "NUL": "a%00b",
    "reserved": "__main__.py",
    "only dots": "%2e",
}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS.keys())
def test_a_hostile_path_in_a_request_is_refused(session: Session, path: str) -> None:
    """Each method gets a 4xx with a reason, and the workspace stays empty."""
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        options = {"json": {"path": "x"}} if method == "PATCH" else {}
        response = session.call(method, f"/files/{path}", **options)
        assert 400 <= response.status_code < 500, (method, response.status_code)
        problem(response)
    session.bash("find . -mindepth 1 -delete")
    assert session.files() == {}
