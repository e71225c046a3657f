"""`code-interpreter-api keys` as an operator runs it: what it prints, keeps and refuses."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.auth.keyring import digest, read_key_file
from tests.support.keys import key_command, make_key


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    """The key alone is on standard output; the file is for its owner alone."""
    file = tmp_path / "keys"
    ended = key_command(None, "add", "alice", API_KEYS_FILE=str(file))
    key = ended.stdout.removesuffix("\n")
    assert re.fullmatch(r"ci_[A-Za-z0-9_-]{43}", key)
    assert "alice" in ended.stderr
    assert key not in ended.stderr
    assert file.read_text() == f"alice:sha256:{digest(key).hex()}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_keys_are_replaced_removed_and_listed(tmp_path: Path) -> None:
    """What else is in the file stays as it is: comments, order, and the rights of the file."""
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
def test_the_file_stays_its_owners(tmp_path: Path) -> None:
    """Root may make keys for a service that runs as somebody else."""
    file = tmp_path / "keys"
    file.touch(0o600)
    os.chown(file, 1234, 1235)
    make_key(file, "alice")
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, 0o600)


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    """The file behind it changes."""
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "keys", tmp_path / "keys"
    file.touch()
    link.symlink_to(file)
    key = make_key(link, "alice")
    assert link.is_symlink()
    assert read_key_file(file) == {"alice": digest(key)}


def test_many_may_add_keys_at_once(tmp_path: Path) -> None:
    """No key that was printed is missing, and no two are the same."""
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
        (("add", "a:b"), 2, "'a:b' is no name"),
        (("add", ""), 2, "'' is no name"),
        (("add", "ä"), 2, "'ä' is no name"),
        (("add", "a\nb"), 2, "is no name"),
        (("add",), 2, "NAME"),
        (("forget", "alice"), 2, "invalid choice"),
        ((), 2, "required"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """It says why, prints no key, and leaves the file as it is."""
    file = tmp_path / "keys"
    make_key(file, "alice")
    before = file.read_text()
    ended = key_command(file, *arguments, LC_ALL="C.UTF-8")
    assert (ended.returncode, ended.stdout) == (status, "")
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("command", [("add", "bob"), ("list",)])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Bad lines are not made worse; a folder that is not there, no file, a folder: one sentence each."""
    bad = tmp_path / "bad"
    bad.write_text("alice:hunter2\n")
    for file, sentence in (
        (bad, "line 1 is not NAME:sha256:HEX"),
        (tmp_path / "nowhere" / "keys", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (None, "say where the keys are"),
    ):
        ended = key_command(file, *command)
        assert (ended.returncode, ended.stdout) == (1, ""), file
        assert sentence in ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert "hunter2" not in ended.stderr
    assert bad.read_text() == "alice:hunter2\n"
