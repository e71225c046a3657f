"""What code can do with files, and with what is none: nothing is followed, held or dropped in silence."""

import time
from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.conftest import docker_only
from tests.hostile.conftest import MEGABYTE
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session

pytestmark = [pytest.mark.timeout(90), pytest.mark.usefixtures("canary")]

WORKSPACE_BYTES = 32 * MEGABYTE
MOST_FILES = 64


def skipped(result: Body) -> dict[str, str]:
    """Path to reason, of what was left out."""
    return {file["path"]: file["reason"] for file in result["skipped_files"]}


def returned(result: Body) -> set[str]:
    """Paths of the files that came back."""
    return {file["path"] for file in result["files"]}


def ran(session: Session, code: str) -> Body:
    """Run code that must end well; its result."""
    result = session.run(dedent(code), timeout_ms=25_000)
    assert result["exit_code"] == 0, result["stderr"]
    return result


def test_what_is_no_file_is_named_and_not_followed(session: Session) -> None:
    """Links, pipes and sockets are reported with a reason; devices can't be made; folders are nothing."""
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


def test_a_terabyte_of_nothing_is_refused(session: Session) -> None:
    """A sparse file is no larger than the disks; one that is larger than may come back is reported."""
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
            id="files of nothing but holes",
        ),
        pytest.param(
            "import os\nwith open('f00', 'wb') as f: f.write(bytes(3 << 20))\n"
            "for n in range(1, 30): os.link('f00', f'f{n:02}')",
            id="thirty names of one file",
        ),
    ],
)
def test_what_comes_back_is_no_more_than_the_workspace_holds(session: Session, make: str) -> None:
    """Ninety megabytes that cost the code three or none do not become ninety on the service's disk."""
    result = ran(session, make)
    assert sum(file["size_bytes"] for file in result["files"]) <= WORKSPACE_BYTES
    assert len(result["files"]) == 10
    left_out = skipped(result)
    assert len(left_out) == 20
    assert all("WORKSPACE_SIZE_MB" in reason for reason in left_out.values())


def test_a_file_that_grows_without_end_while_it_is_read(session: Session) -> None:
    """What comes back is some beginning of it, or it is reported; the call has an end."""
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
            continue  # It became shorter than was promised: the transfer is cut, so that the reader knows.
        assert response.status_code in (200, 404, 503)
        assert set(response.content) <= {ord("x")} or response.status_code != 200
    session.restart()


def test_files_sent_where_code_swaps_folders_for_links(session: Session) -> None:
    """However the path changes while a file is sent there, nothing is written outside the workspace."""
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
def test_a_hundred_thousand_files(session: Session, target: Service) -> None:
    """The disk takes some; each is returned, named as skipped, or counted among those not even listed."""
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
    began = time.monotonic()
    assert target.api.http.get("/health").json()["status"] == "ok"
    assert time.monotonic() - began < 1


def test_a_tree_four_thousand_folders_deep(session: Session) -> None:
    """It is looked into as deep as files may be staged; the rest is reported as one."""
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


def test_a_tree_five_thousand_folders_wide(session: Session) -> None:
    """A file in each of five thousand folders is seen: no descriptor is held for each."""
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
def test_paths_of_fifteen_thousand_bytes(session: Session, name: str) -> None:
    """Three thousand files behind sixty long names do not make an answer that can't be sent."""
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
    "what shells know": "-rf *; $(id) `id` | & > <",
    "quotes": '\\"\'\\\\\\"',
    "per cent": "%2e%2e%2f%00",
    "spaces": "  a  ",
    "combining characters": "e\\u0301\\u0301\\ufeff",
    "outside the first plane": "\\U0001f4a3",
    "the name of a part": ".upload-part-0123456789abcdef",
}
"""Names that files can have, as Python source spells them."""


@pytest.mark.parametrize("spelled", NAMES.values(), ids=NAMES.keys())
def test_a_name_that_means_harm_is_only_a_name(session: Session, target: Service, spelled: str) -> None:
    """It comes back as it is, in the answer, in the list, and as a download that is one header long."""
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
    """A name as a part of an address, with nothing left to be understood otherwise."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


def test_names_that_are_no_text_are_reported(session: Session) -> None:
    """Bytes that are not UTF-8, halves of characters among them, are named as far as they can be."""
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
def test_a_path_from_outside_that_means_harm_is_refused(session: Session, path: str) -> None:
    """Whatever is asked of it is a 4xx that says why, and the workspace stays empty."""
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        options = {"json": {"path": "x"}} if method == "PATCH" else {}
        response = session.call(method, f"/files/{path}", **options)
        assert 400 <= response.status_code < 500, (method, response.status_code)
        problem(response)
    session.bash("find . -mindepth 1 -delete")
    assert session.files() == {}
