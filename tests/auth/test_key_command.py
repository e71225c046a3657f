"""Tests of the command `code-interpreter-api keys`: its output, the key file, and its errors."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.auth.keyring import digest, read_key_file
from tests.support.keys import key_command, make_key


def test_a_new_key_is_printed_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    """Standard output has only the key. Only the owner of the file can read it."""
    file = tmp_path / "keys"
    ended = key_command(None, "add", "alice", API_KEYS_FILE=str(file))
    key = ended.stdout.removesuffix("\n")
    assert re.fullmatch(r"ci_[A-Za-z0-9_-]{43}", key)
    assert "alice" in ended.stderr
    assert key not in ended.stderr
    assert file.read_text() == f"alice:sha256:{digest(key).hex()}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_command_replaces_removes_and_lists_keys(tmp_path: Path) -> None:
    """Comments, the order of the keys and the permissions of the file stay unchanged."""
    file = tmp_path / "keys"
    file.write_text("# ours\n\n")
    file.chmod(0o640)
    keys = {name: make_key(file, name) for name in ("alice", "bob", "alice2")}
    keys["bob"] = make_key(file, "bob", "replace")
    assert key_command(file, "remove", "alice").returncode == 0
    assert read_key_file(file) == {name: digest(keys[name]) for name in ("bob", "alice2")}
    assert file.read_text().startswith("# ours\n\nbob:")
    assert key_command(file, "list").stdout == "bob\nalice2\n"
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_key_file_keeps_its_owner(tmp_path: Path) -> None:
    """Root can add keys for a service that runs as another user."""
    file = tmp_path / "keys"
    file.touch(0o600)
    os.chown(file, 1234, 1235)
    make_key(file, "alice")
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, 0o600)


def test_link_to_the_key_file_stays_a_link(tmp_path: Path) -> None:
    """The command changes the file that the link points to."""
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "keys", tmp_path / "keys"
    file.touch()
    link.symlink_to(file)
    key = make_key(link, "alice")
    assert link.is_symlink()
    assert read_key_file(file) == {"alice": digest(key)}


def test_eight_processes_add_keys_at_once(tmp_path: Path) -> None:
    """Each printed key is in the file."""
    file = tmp_path / "keys"
    names = [f"name-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        keys = dict(zip(names, threads.map(lambda name: make_key(file, name), names), strict=True))
    assert read_key_file(file) == {name: digest(key) for name, key in keys.items()}


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("add", "alice"), 1, "'alice' has a key already"),
        (("add", "ALICE"), 1, "'ALICE' has a key already"),
        (("replace", "bob"), 1, "'bob' has no key"),
        (("remove", "bob"), 1, "'bob' has no key"),
        (("add", "a:b"), 2, "'a:b' is not a valid name"),
        (("add", ""), 2, "'' is not a valid name"),
        (("add", "ä"), 2, "'ä' is not a valid name"),
        (("add", "a\nb"), 2, "is not a valid name"),
        (("add",), 2, "NAME"),
        (("forget", "alice"), 2, "invalid choice"),
        ((), 2, "required"),
    ],
)
def test_invalid_command_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """The command says why, prints no key, and does not change the file."""
    file = tmp_path / "keys"
    make_key(file, "alice")
    before = file.read_text()
    ended = key_command(file, *arguments, LC_ALL="C.UTF-8")
    assert (ended.returncode, ended.stdout) == (status, "")
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("command", [("add", "bob"), ("list",)])
def test_unusable_key_file_is_reported_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The file has an invalid line, its folder is missing, it is a folder, or no file is named."""
    bad = tmp_path / "bad"
    bad.write_text("alice:hunter2\n")
    for file, sentence in (
        (bad, "line 1 is not NAME:sha256:HEX"),
        (tmp_path / "nowhere" / "keys", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (None, "no key file is given"),
    ):
        ended = key_command(file, *command)
        assert (ended.returncode, ended.stdout) == (1, ""), file
        assert sentence in ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert "hunter2" not in ended.stderr
    assert bad.read_text() == "alice:hunter2\n"
