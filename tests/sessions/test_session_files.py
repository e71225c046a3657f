"""A session's files: seen, streamed in and out, moved and removed, also while its code runs."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

import pytest

from tests.conftest import serving
from tests.support.api import problem
from tests.support.process import Service
from tests.support.session import Session, StandingSession
from tests.support.waiting import soon

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def roomy(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service that takes files of 20 MB into workspaces of 50."""
    yield from serving(
        open_service, POOL_SIZE=1, MAX_FILE_SIZE_MB=20, WORKSPACE_SIZE_MB=50, MAX_EXEC_TIMEOUT_MS=30_000
    )


@pytest.fixture(scope="module")
def shared(roomy: Service) -> Iterator[StandingSession]:
    """One session for all tests, made with two files in it."""
    files = roomy.api.stage_at({"in/data.csv": b"a,b\n1,2\n", "notes.txt": b"given"})
    standing = StandingSession(roomy, files=files)
    yield standing
    standing.close()


@pytest.fixture
def session(shared: StandingSession) -> Session:
    """The shared session with nothing in its workspace but what it was made with."""
    alive = shared.alive()
    alive.bash("find . -mindepth 1 -maxdepth 1 ! -name in ! -name notes.txt -exec rm -rf {} +")
    alive.put("notes.txt", b"given")
    alive.run("import os; os.chdir('/workspace')")
    return alive


# Listing and reading------------------------------------------------------------------------------


def test_new_session_has_its_inputs(session: Session) -> None:
    """The files of the request are there and are listed, and no call returns them as its own."""
    listed = session.files()
    assert {path: file["size_bytes"] for path, file in listed.items()} == {"in/data.csv": 8, "notes.txt": 5}
    result = session.run("print(open('in/data.csv').read(), open('notes.txt').read())")
    assert result["stdout"] == "a,b\n1,2\n given\n"
    assert result["files"] == []


def test_files_are_listed_with_sizes_and_times(session: Session) -> None:
    """Dotfiles and files in folders are listed; folders are not."""
    before = time.time()
    session.run(
        dedent("""
            import os
            os.makedirs("deep/er/empty")
            for path, size in {"a.txt": 3, ".hidden": 0, "deep/b.bin": 70_000, "deep/er/é 🎉.txt": 1}.items():
                with open(path, "wb") as file:
                    file.write(b"x" * size)
            os.utime("a.txt", (1_000_000_000.5, 1_000_000_000.5))
        """)
    )
    listed = session.files()
    sizes = {path: file["size_bytes"] for path, file in listed.items()}
    assert sizes == {
        "in/data.csv": 8,
        "notes.txt": 5,
        "a.txt": 3,
        ".hidden": 0,
        "deep/b.bin": 70_000,
        "deep/er/é 🎉.txt": 1,
    }
    assert listed["a.txt"]["modified_at"] == pytest.approx(1_000_000_000.5, abs=0.01)
    assert before - 2 < listed["deep/b.bin"]["modified_at"] < time.time() + 2


def test_each_call_returns_the_files_that_it_changed(session: Session) -> None:
    """Created and changed files are returned, unchanged ones are not."""
    session.put("uploaded.txt", b"from outside")
    first = session.run("with open('new.txt', 'w') as f: _ = f.write('new')")
    assert session.api.returned(first) == {"new.txt": b"new"}
    assert session.run("print(open('new.txt').read())")["files"] == []
    second = session.run("for path in ('new.txt', 'notes.txt'):\n    with open(path, 'a') as f: f.write('!')")
    assert session.api.returned(second) == {"new.txt": b"new!", "notes.txt": b"given!"}
    assert session.run("import os; os.remove('new.txt')")["files"] == []
    session.put("notes.txt", b"replaced")
    assert session.run("1")["files"] == []
    assert session.api.returned(first) == {"new.txt": b"new"}, "a kept version stays as it was"


def test_call_can_stage_files(session: Session) -> None:
    """The `files` of a call replace files of the same path before the code runs."""
    staged = session.api.stage_at({"notes.txt": b"newer", "more/x.txt": b"x"})
    result = session.run("print(open('notes.txt').read(), open('more/x.txt').read())", files=staged)
    assert result["stdout"] == "newer x\n"
    assert result["files"] == []


# In and out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_537, 20 * MEGABYTE])
def test_bytes_are_exact_in_both_directions(session: Session, size: int) -> None:
    """Files from zero bytes to the largest size arrive unchanged, and are returned unchanged."""
    content = random.Random(size).randbytes(size)
    session.put("folder/data.bin", content)
    digest = session.printed(
        "import hashlib\nprint(hashlib.sha256(open('folder/data.bin', 'rb').read()).hexdigest())"
    )
    assert digest == hashlib.sha256(content).hexdigest()
    assert session.read("folder/data.bin") == content
    head = session.file("HEAD", "folder/data.bin")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size)
    assert session.files()["folder/data.bin"]["size_bytes"] == size


def test_large_file_does_not_fill_the_memory_of_the_service(session: Session, roomy: Service) -> None:
    """20 MB are uploaded in chunks and downloaded, and the service's memory stays flat."""

    def pieces() -> Iterator[bytes]:
        for _ in range(320):
            yield b"x" * 65_536

    session.put("big", pieces())
    before = roomy.resident_kb()
    for _ in range(3):
        session.put("big", pieces())
        assert len(session.read("big")) == 20 * MEGABYTE
    assert roomy.resident_kb() - before < 15 * 1024


@pytest.mark.parametrize("in_pieces", [False, True], ids=["with Content-Length", "in pieces"])
def test_file_over_the_limit_is_refused_and_changes_nothing(session: Session, in_pieces: bool) -> None:
    """One byte over `MAX_FILE_SIZE_MB` gives 413, and the previous file is still there."""
    session.put("kept.txt", b"before")

    def pieces() -> Iterator[bytes]:
        for _ in range(320):
            yield b"x" * 65_536
        yield b"x"

    content = pieces() if in_pieces else b"x" * (20 * MEGABYTE + 1)
    response = session.file("PUT", "kept.txt", content=content)
    assert response.status_code == 413
    assert problem(response)["code"] == "file_too_large"
    assert session.read("kept.txt") == b"before"
    assert set(session.files()) == {"in/data.csv", "notes.txt", "kept.txt"}


def test_file_that_does_not_fit_is_refused_and_changes_nothing(session: Session) -> None:
    """A full workspace gives 413. Its files are unharmed, and a smaller file still fits."""
    content = b"x" * (20 * MEGABYTE)
    session.put("one", content)
    session.put("two", content)
    response = session.file("PUT", "three", content=content)
    assert response.status_code == 413
    assert problem(response)["code"] == "workspace_full"
    assert set(session.files()) == {"in/data.csv", "notes.txt", "one", "two"}
    assert session.file("DELETE", "one").status_code == 204
    session.put("three", content)
    assert session.printed("import os; os.path.getsize('three')") == str(20 * MEGABYTE)


def test_upload_replaces_a_file_of_the_code(session: Session) -> None:
    """The uploaded file belongs to the user that the code runs as."""
    session.run("with open('f.txt', 'w') as f: _ = f.write('a long text that was there')")
    assert session.read("f.txt") == b"a long text that was there"
    session.put("f.txt", b"short")
    assert session.read("f.txt") == b"short"
    session.run("with open('f.txt', 'a') as f: _ = f.write(' and more')")
    assert session.read("f.txt") == b"short and more"


@pytest.mark.parametrize(
    "path",
    [
        "données/数据 🎉.csv",
        'it\'s "quoted" & more?.txt',
        "100%25.txt",
        "%2e%2e",
        "a#b;c=d+e.txt",
        "back\\slash",
        ".config/.hidden",
        "..almost",
        "x" * 255,
    ],
)
def test_every_valid_file_name_works(session: Session, path: str) -> None:
    """Every call accepts the quoted path."""
    session.put(path, b"content")
    assert session.printed(f"print(open({path!r}).read())") == "content"
    assert path in session.files()
    assert session.read(path) == b"content"
    assert session.file("PATCH", path, json={"path": "renamed"}).status_code == 200
    assert session.file("PATCH", "renamed", json={"path": path}).status_code == 200
    assert session.file("DELETE", path).status_code == 204
    assert path not in session.files()


def test_download_is_an_attachment(session: Session) -> None:
    """A browser saves the file and does not run it."""
    session.put("page.html", b"<script>alert(1)</script>")
    response = session.file("GET", "page.html")
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"


# Removing and renaming ---------------------------------------------------------------------------


def test_deleted_file_is_gone(session: Session) -> None:
    """The answer is 204. Then neither the code nor a request finds the file."""
    session.put("gone.txt", b"x")
    response = session.file("DELETE", "gone.txt")
    assert (response.status_code, response.content) == (204, b"")
    assert "gone.txt" not in session.files()
    assert session.printed("import os; os.path.exists('gone.txt')") == "False"
    for method in ("GET", "DELETE"):
        repeated = session.file(method, "gone.txt")
        assert repeated.status_code == 404
        problem(repeated)
    assert session.file("HEAD", "gone.txt").status_code == 404


def test_renamed_file_keeps_its_content(session: Session) -> None:
    """The file is found under its new path only, in a folder that is created, with its bytes and time."""
    session.run("import os\nopen('old.txt', 'w').write('text')\nos.utime('old.txt', (1e9, 1e9))")
    response = session.file("PATCH", "old.txt", json={"path": "new/folder/name.txt"})
    assert response.status_code == 200
    body = response.json()
    assert (body["path"], body["size_bytes"]) == ("new/folder/name.txt", 4)
    listed = session.files()
    assert "old.txt" not in listed
    assert listed["new/folder/name.txt"]["modified_at"] == pytest.approx(1e9, abs=0.01)
    assert session.read("new/folder/name.txt") == b"text"
    assert session.printed("import os; os.path.exists('old.txt')") == "False"
    missing = session.file("PATCH", "old.txt", json={"path": "x"})
    assert missing.status_code == 404
    problem(missing)


def test_invalid_new_path_is_refused(session: Session) -> None:
    """A path outside the workspace or an invalid body gives 422 and moves nothing."""
    for invalid in ("../up", "/etc/x", "", ".", "a\0b", "a/../../b", "x" * 300, 7, None):
        response = session.file("PATCH", "notes.txt", json={"path": invalid})
        assert response.status_code == 422, (invalid, response.text[:300])
        problem(response)
    assert session.file("PATCH", "notes.txt", json={}).status_code == 422
    assert session.read("notes.txt") == b"given"


# While code runs ---------------------------------------------------------------------------------


def test_file_calls_do_not_wait_for_running_code(session: Session) -> None:
    """Files are listed, written, read, renamed and deleted meanwhile, and the code sees that."""
    cell_id = session.detach(
        dedent("""
            import os, time
            with open("from_code.txt", "w") as file:
                file.write("half")
            while not os.path.exists("go.txt"):
                time.sleep(0.02)
            print(open("go.txt").read(), os.path.exists("from_code.txt"), open("moved.txt").read())
        """),
        timeout_ms=30_000,
    )
    assert soon(lambda: "from_code.txt" in session.files())
    assert session.read("from_code.txt") == b"half"
    session.put("first.txt", b"text")
    assert session.file("PATCH", "first.txt", json={"path": "moved.txt"}).status_code == 200
    assert session.file("DELETE", "from_code.txt").status_code == 204
    assert session.describe()["state"] == "busy"
    session.put("go.txt", b"went")
    result = session.finished(cell_id)["result"]
    assert result["stdout"] == "went False text\n"


def test_download_of_a_growing_file_gives_its_beginning(session: Session) -> None:
    """The code writes to the file while it is read."""
    cell_id = session.detach(
        dedent("""
            import time
            end = time.time() + 1.5
            with open("log.txt", "w", buffering=1) as log:
                while time.time() < end:
                    log.write("line of the log\\n" * 200)
                    time.sleep(0.001)
        """)
    )
    time.sleep(0.5)
    for _ in range(5):
        content = session.read("log.txt").decode()
        assert content == ("line of the log\n" * (len(content) // 16 + 1))[: len(content)]
    assert session.finished(cell_id)["result"]["exit_code"] == 0


# Out of bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "..%2Fetc%2Fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "in/%2e%2e/%2e%2e/etc/passwd",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "a%00b",
        "in%2F..",
        "%2e",
        "__main__.py",
        "x" * 256,
        "folder/" * 200 + "f",
    ],
)
def test_path_outside_the_workspace_is_refused(session: Session, path: str) -> None:
    """Every call for such a path gives 4xx and has no effect."""
    before = session.files()
    bodies: dict[str, Any] = {"PUT": {"content": b"x"}, "PATCH": {"json": {"path": "moved"}}}
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        options = bodies.get(method, {})
        response = session.call(method, f"/files/{path}", **options)
        assert 400 <= response.status_code < 500, (method, response.status_code, response.text[:300])
        if method != "HEAD":
            problem(response)
    assert session.files() == before


@pytest.mark.parametrize("path", ["%ff%fe", "%ED%A0%80"])
def test_path_that_is_not_utf8_is_not_found(session: Session, path: str) -> None:
    """No file of the workspace has such a path."""
    for method in ("GET", "DELETE"):
        response = session.call(method, f"/files/{path}")
        assert response.status_code in (404, 422)
        problem(response)
    assert session.call("PUT", f"/files/{path}", content=b"x").status_code < 500


def test_links_are_not_followed(session: Session) -> None:
    """Nothing is read, written, renamed or listed through a link that the code made."""
    session.run(
        dedent("""
            import os
            with open("/tmp/outside.txt", "w") as file: file.write("secret")
            os.makedirs("/tmp/folder", exist_ok=True)
            with open("/tmp/folder/x.txt", "w") as file: file.write("secret")
            os.symlink("/tmp/outside.txt", "file_link")
            os.symlink("/etc/passwd", "passwd")
            os.symlink("/tmp/folder", "folder_link")
            os.symlink("loop", "loop")
            os.symlink("notes.txt", "inside_link")
        """)
    )
    links = ("file_link", "passwd", "folder_link", "folder_link/x.txt", "loop", "inside_link")
    assert set(session.files()) == {"in/data.csv", "notes.txt"}
    for path in links:
        response = session.file("GET", path)
        assert 400 <= response.status_code < 500, (path, response.text[:300])
        assert "secret" not in response.text and "root:" not in response.text
        problem(response)
    for path in ("folder_link/new.txt", "folder_link/x.txt"):
        assert 400 <= session.file("PUT", path, content=b"changed").status_code < 500
        renamed = session.file("PATCH", "notes.txt", json={"path": path})
        assert 400 <= renamed.status_code < 500
    assert 400 <= session.file("DELETE", "folder_link/x.txt").status_code < 500
    session.file("PUT", "file_link", content=b"changed")  # in place of the link, or not at all
    seen = session.printed("print(open('/tmp/outside.txt').read(), sorted(os.listdir('/tmp/folder')))")
    assert seen == "secret ['x.txt']"
    assert session.read("notes.txt") == b"given"


def test_irregular_files_are_refused_at_once(session: Session) -> None:
    """Folders, pipes, sockets and unreadable files give 4xx."""
    session.run(
        dedent("""
            import os, socket
            os.mkfifo("pipe")
            os.makedirs("folder")
            opened = socket.socket(socket.AF_UNIX)
            opened.bind("socket")
            with open("closed.txt", "w") as file: file.write("x")
            os.chmod("closed.txt", 0)
        """)
    )
    for path in ("pipe", "folder", "socket", "closed.txt"):
        response = session.file("GET", path)
        assert 400 <= response.status_code < 500, (path, response.text[:300])
        problem(response)
    for path in ("folder", "notes.txt/below"):
        assert 400 <= session.file("PUT", path, content=b"x").status_code < 500
    assert not {"pipe", "folder", "socket"} & set(session.files())
    assert session.read("notes.txt") == b"given"
