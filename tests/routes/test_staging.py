"""Files in and out of an execution: what is staged, what comes back, and what never does."""

import hashlib
import random
from textwrap import dedent
from typing import Any

import pytest

from tests.conftest import Run
from tests.support.api import problem
from tests.support.process import Service

MEGABYTE = 1024 * 1024


# In ----------------------------------------------------------------------------------------------


def test_inputs_are_staged_under_their_paths(run: Run, service: Service) -> None:
    """Folders are made, any name a Linux file can have is kept, bytes are exact."""
    inputs = {
        "plain.txt": b"plain",
        "empty": b"",
        "deep/er/est/data.bin": bytes(range(256)),
        ".env": b"dot",
        ".config/.hidden/x": b"dots",
        "données/数据 🎉.csv": b"unicode",
        'with space/it\'s "quoted" & more?.txt': b"punctuation",
        "-rf": b"dash",
        "back\\slash": b"backslash",
        "%2e%2e": b"percent",
        "new\nline": b"newline",
        "x" * 255: b"longest name",
        "plain.TXT": b"case counts",
        "..almost": b"two dots in front",
    }
    result = run(
        dedent("""
            import hashlib, os
            for folder, _, names in os.walk("."):
                for name in names:
                    path = os.path.relpath(os.path.join(folder, name), ".")
                    with open(path, "rb") as file:
                        print(ascii(path), hashlib.sha256(file.read()).hexdigest())
        """),
        files=service.api.stage_at(inputs),
    )
    expected = {f"{p!a} {hashlib.sha256(data).hexdigest()}" for p, data in inputs.items()}
    assert set(result["stdout"].splitlines()) == expected
    assert result["files"] == [], "an untouched input does not come back"


@pytest.mark.parametrize("size", [0, 1, 65_537, 10 * MEGABYTE])
def test_bytes_are_exact_in_both_directions(run: Run, service: Service, size: int) -> None:
    """Files from zero bytes to the largest size are the same after staging and after their return."""
    content = random.Random(size).randbytes(size)
    result = run(
        "import hashlib, shutil\nprint(hashlib.sha256(open('in', 'rb').read()).hexdigest())\n"
        "shutil.copy('in', 'out')\nNone",
        files=service.api.stage_at({"in": content}),
    )
    assert result["stdout"] == hashlib.sha256(content).hexdigest() + "\n"
    assert [(file["path"], file["size_bytes"]) for file in result["files"]] == [("out", size)]
    assert service.api.returned(result) == {"out": content}
    assert result["skipped_files"] == []


def test_inputs_and_their_folders_belong_to_the_user(run: Run, service: Service) -> None:
    """The code may change an input, write beside it, and remove the folder made for it."""
    result = run(
        dedent("""
            import shutil
            with open("kept/in", "a") as file:
                file.write(" and more")
            with open("kept/new", "w") as file:
                file.write("beside")
            shutil.rmtree("removed")
        """),
        files=service.api.stage_at({"kept/in": b"given", "removed/in": b"given"}),
    )
    assert result["exit_code"] == 0, result["stderr"]
    assert service.api.returned(result) == {"kept/in": b"given and more", "kept/new": b"beside"}


def test_file_can_be_staged_twice_and_outputs_can_be_inputs(run: Run, service: Service) -> None:
    """One id at two paths gives two files, and the id of an output is an input of the next call."""
    file_id = service.api.upload(b"once")
    places = [{"path": path, "file_id": file_id} for path in ("a", "b/c")]
    first = run(
        "with open('sum', 'w') as f: _ = f.write(open('a').read() + open('b/c').read())",
        files=places,
    )
    (made,) = first["files"]
    second = run("print(open('again').read())", files=[{"path": "again", "file_id": made["file_id"]}])
    assert second["stdout"] == "onceonce\n"


BAD_PATHS = {
    "parent": ["../up"],
    "parent inside": ["a/../b"],
    "parent at the end": ["a/.."],
    "only two dots": [".."],
    "absolute": ["/etc/passwd"],
    "NUL": ["a\x00b"],
    "empty": [""],
    "this folder": ["."],
    "reserved": ["__main__.py"],
    "name too long": ["x" * 256],
    "name too long in bytes": ["é" * 128],
    "path too long": ["/".join(["folder"] * 1000)],
    "twice": ["same", "same"],
    "file and folder": ["a", "a/b"],
    "folder and file": ["a/b/c", "a/b"],
}


@pytest.mark.parametrize("paths", BAD_PATHS.values(), ids=BAD_PATHS.keys())
def test_a_bad_path_is_refused_before_anything_runs(service: Service, paths: list[str]) -> None:
    """A path outside the workspace, reserved or colliding is 422, and no kernel was used."""

    def newest() -> Any:
        return service.api.http.get("/v1/executions", params={"limit": 1}).json()["executions"]

    before = newest()
    file_id = service.api.upload(b"x")
    files = [{"path": path, "file_id": file_id} for path in ["good.txt", *paths]]
    response = service.api.execute("print('ran')", files=files)
    assert response.status_code == 422
    assert problem(response)["code"] == "invalid_path"
    assert newest() == before


def test_a_path_that_cannot_be_encoded_is_refused(service: Service) -> None:
    """A lone surrogate in a path is 422."""
    body = (
        b'{"code": "1", "files": [{"path": "a\\ud800", "file_id": "%s"}]}' % service.api.upload(b"x").encode()
    )
    headers = {"content-type": "application/json"}
    response = service.api.http.post("/v1/execute", content=body, headers=headers)
    assert response.status_code == 422
    problem(response)


@pytest.mark.parametrize(
    "file_id",
    [
        "00000000-0000-4000-8000-000000000000",
        "not-an-id",
        "../../../../etc/passwd",
        "a\x00b",
        "x" * 5000,
    ],
)
def test_unknown_input_is_named_in_the_error(service: Service, file_id: str) -> None:
    """An id that was never given, or that is invalid, gives 404 with the path that needs it."""
    response = service.api.execute("1", files=[{"path": "data.csv", "file_id": file_id}])
    assert response.status_code == 404
    body = problem(response)
    assert body["code"] == "file_not_found"
    assert body["detail"] == f"File with ID '{file_id}' not found for path 'data.csv'."


def test_a_deleted_file_cannot_be_staged(service: Service) -> None:
    """After DELETE an id is unknown."""
    file_id = service.api.upload(b"x")
    assert service.api.http.delete(f"/v1/files/{file_id}").status_code == 204
    response = service.api.execute("1", files=[{"path": "a", "file_id": file_id}])
    assert response.status_code == 404


# Out ---------------------------------------------------------------------------------------------


def test_created_files_are_returned_from_every_folder(run: Run, service: Service) -> None:
    """Dotfiles, subfolders, Unicode names and empty files are returned; folders are not."""
    outputs = {
        "out.txt": b"text",
        ".hidden": b"dot",
        ".folder/.deep/x": b"dots",
        "sub/folder/data.bin": bytes(range(256)) * 100,
        "empty": b"",
        "数据/résumé 🎉.md": b"unicode",
        "new\nline": b"newline",
        "y" * 255: b"longest name",
    }
    result = run(
        dedent(f"""
            import os, pathlib
            for path, data in {outputs!r}.items():
                target = pathlib.Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            os.makedirs("nothing/in/here")
            os.link("out.txt", "linked.txt")
        """)
    )
    assert service.api.returned(result) == {**outputs, "linked.txt": b"text"}
    assert result["skipped_files"] == []


def test_only_changed_inputs_are_returned(run: Run, service: Service) -> None:
    """Content decides: a change of the same size at the same time counts, a touch does not."""
    names = ("untouched", "appended", "same_size", "rewritten", "touched", "deleted", "moved")
    result = run(
        dedent("""
            import os, pathlib
            before = os.stat("same_size")
            pathlib.Path("same_size").write_bytes(b"GIVEN")
            os.utime("same_size", ns=(before.st_atime_ns, before.st_mtime_ns))
            with open("appended", "ab") as file:
                file.write(b" more")
            # Written again with what it had: to the user it is unchanged.
            pathlib.Path("rewritten").write_bytes(pathlib.Path("rewritten").read_bytes())
            os.utime("touched", (1, 1))
            os.chmod("touched", 0o600)
            os.remove("deleted")
            os.rename("moved", "arrived")
        """),
        files=service.api.stage_at(dict.fromkeys(names, b"given")),
    )
    assert result["exit_code"] == 0, result["stderr"]
    assert service.api.returned(result) == {
        "same_size": b"GIVEN",
        "appended": b"given more",
        "arrived": b"given",
    }


def test_links_pipes_sockets_and_folders_are_never_followed_nor_returned(run: Run, service: Service) -> None:
    """Only regular files beneath the workspace come back, whatever lies in the way."""
    result = run(
        dedent("""
            import os, socket
            os.symlink("/etc/passwd", "passwd")
            os.symlink("/proc/1/environ", "environ")
            os.symlink("real.txt", "alias.txt")
            os.symlink("nowhere", "dangling")
            os.symlink("loop", "loop")
            os.symlink("/", "root")
            os.symlink("/etc", "etc")
            os.mkfifo("pipe")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("socket")
            os.mkdir("folder.txt")
            os.remove("input.txt"); os.symlink("/etc/passwd", "input.txt")
            os.rename("inputs", "moved"); os.symlink("/etc", "inputs")
            with open("real.txt", "w") as file:
                file.write("real")
        """),
        files=service.api.stage_at({"input.txt": b"given", "inputs/passwd": b"given"}),
    )
    assert result["exit_code"] == 0, result["stderr"]
    assert service.api.returned(result) == {"real.txt": b"real", "moved/passwd": b"given"}


def test_files_swapped_for_links_expose_nothing(run: Run, service: Service) -> None:
    """A process replaces files by links while the files are being collected."""
    result = run(
        dedent("""
            import subprocess, sys
            swap = '''
            import os
            os.makedirs("box", exist_ok=True)
            while True:
                try:
                    with open("swap", "w") as file:
                        file.write("mine")
                    os.replace("swap", "target")
                    os.symlink("/etc/passwd", "swap")
                    os.replace("swap", "target")
                    os.rename("box", "box2")
                    os.symlink("/etc", "box")
                    os.remove("box")
                    os.rename("box2", "box")
                except OSError:
                    pass
            '''
            import textwrap
            subprocess.Popen([sys.executable, "-c", textwrap.dedent(swap)], start_new_session=True)
            import time; time.sleep(0.5)
        """)
    )
    assert result["exit_code"] == 0, result["stderr"]
    contents = service.api.returned(result)
    assert set(contents) <= {"swap", "target"}
    assert set(contents.values()) <= {b"", b"mine"}


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ("with open('big', 'wb') as f: _ = f.truncate(10 * 1024 * 1024 + 1)", "big"),
        (
            "import os\nos.mkdir('sub')\nwith open('sub/big', 'wb') as f: f.write(b'x' * 2**24)",
            "sub/big",
        ),
    ],
)
def test_a_file_over_the_limit_is_reported(run: Run, make: str, path: str) -> None:
    """A file larger than `MAX_FILE_SIZE_MB` is named with its size and a reason; others come."""
    result = run(f"{make}\nwith open('small', 'w') as f: _ = f.write('x')")
    assert result["exit_code"] == 0
    assert [file["path"] for file in result["files"]] == ["small"]
    (skipped,) = result["skipped_files"]
    assert skipped["path"] == path
    assert skipped["size_bytes"] > 10 * MEGABYTE


def test_file_left_open_has_its_content(run: Run, service: Service) -> None:
    """Text that was written to an open file is in the file, as at the end of a script."""
    result = run("f = open('x', 'w')\nf.write('hi')")
    assert service.api.returned(result) == {"x": b"hi"}
    assert result["stdout"] == "2\n"


def test_a_file_written_at_exit_comes_back(run: Run, service: Service) -> None:
    """The files are gathered after `atexit` handlers and unjoined threads are done."""
    result = run(
        "import atexit, pathlib, threading\n"
        "atexit.register(pathlib.Path('exit').write_text, 'a')\n"
        "threading.Timer(0.3, pathlib.Path('thread').write_text, ('b',)).start()"
    )
    assert service.api.returned(result) == {"exit": b"a", "thread": b"b"}


def test_unreadable_files_are_named_as_skipped(run: Run, service: Service) -> None:
    """Files without permission, without UTF-8 names or a hundred folders deep are all reported."""
    result = run(
        dedent("""
            import os
            def put(path, data=b"x"):
                with open(path, "wb") as file:
                    file.write(data)
            put("good")
            put("locked"); os.chmod("locked", 0)
            put(b"name-\\xff\\xfe")
            os.mkdir("closed"); put("closed/in"); os.chmod("closed", 0)
            os.mkdir("write_only"); os.chmod("write_only", 0o300); put("write_only/in")
            for _ in range(300):
                os.mkdir("deep"); os.chdir("deep")
            put("bottom")
        """)
    )
    assert result["exit_code"] == 0, result["stderr"]
    assert service.api.returned(result)["good"] == b"x"
    named: list[dict[str, Any]] = result["files"] + result["skipped_files"]
    paths = {file["path"] for file in named}
    assert "locked" in paths, "a file that cannot be read is either returned or said to be skipped"
    assert run("print('next')")["stdout"] == "next\n"
