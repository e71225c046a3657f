"""Other users and the key file: a user who can write to it could make a key of any name."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.auth.errors import KeyFileInvalid
from service.auth.keyring import Keyring, digest, read_trusted_key_file
from service.doctor.command import Doctor
from service.settings import load_settings
from tests.support.process import ROOT

SOMEBODY = 54_321
"""The id of a user and of a group without a name."""
LINE = f"alice:sha256:{digest('key of alice').hex()}\n"


@pytest.fixture
def as_root() -> None:
    """Skip the test if this user cannot give files to other users."""
    if os.geteuid():
        pytest.skip("this user may not give files away")


def key_file(folder: Path, mode: int = 0o600, owner: int = -1, group: int = -1) -> Path:
    """Write a key file with an owner and permissions."""
    path = folder / "keys"
    path.write_text(LINE)
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("mode", "owner", "group", "reason"),
    [
        (0o602, -1, -1, "other users can write to it; take that from them"),
        (0o666, -1, -1, "other users can write to it; take that from them"),
        (0o660, -1, SOMEBODY, "other users can write to it; take that from them"),
        (0o620, -1, SOMEBODY, "other users can write to it; take that from them"),
        (0o600, SOMEBODY, -1, f"it belongs to user {SOMEBODY}; give it to the service's user"),
        (0o444, SOMEBODY, -1, f"it belongs to user {SOMEBODY}; give it to the service's user"),
    ],
)
def test_key_file_that_others_can_change_is_refused(
    mode: int, owner: int, group: int, reason: str, shared: Path, as_root: None
) -> None:
    """Their owner, and the permissions of all users and of a foreign group, decide."""
    path = key_file(shared, mode, owner, group)
    with pytest.raises(KeyFileInvalid, match=f"^API_KEYS_FILE={path} cannot be used: {reason}"):
        Keyring({}, path)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_key_file_that_others_can_replace_is_refused(mode: int, shared: Path, as_root: None) -> None:
    """Others can replace a file in a folder that they can write to, and their own links in `/tmp`."""
    folder = shared / "open"
    folder.mkdir()
    folder.chmod(mode)
    path = key_file(folder)
    if mode & 0o1000:
        link = folder / "link"
        link.symlink_to(path)
        os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
        path = link
    with pytest.raises(KeyFileInvalid, match=f"{folder}: .*replace|{folder}: .*owns an entry"):
        Keyring({}, path)


def test_mounted_secret_is_used(shared: Path, as_root: None) -> None:
    """Secrets of Docker and Kubernetes belong to root, and everybody can read them, also through links."""
    version = shared / "..2026"
    version.mkdir()
    key_file(version, 0o644, 0, 0)
    (shared / "..data").symlink_to("..2026")
    (shared / "keys").symlink_to("..data/keys")
    shared.chmod(0o1777)
    assert list(read_trusted_key_file(shared / "keys")) == ["alice"]
    (version / "keys").chmod(0o440)
    assert list(read_trusted_key_file(shared / "keys")) == ["alice"]
    (version / "keys").chmod(0o660)  # its group is root's
    assert list(read_trusted_key_file(shared / "keys")) == ["alice"]


@pytest.mark.parametrize(
    ("mode", "group", "warned"),
    [(0o600, -1, False), (0o640, -1, False), (0o640, SOMEBODY, True), (0o644, -1, True), (0o604, -1, True)],
)
def test_start_and_doctor_warn_of_a_key_file_that_others_can_read(
    mode: int,
    group: int,
    warned: bool,
    shared: Path,
    as_root: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The file has only hashes, so the service starts."""
    path = key_file(shared, mode, group=group)
    with caplog.at_level(logging.WARNING):
        Keyring({}, path)
    assert [record.getMessage() for record in caplog.records] == [
        f"Other users of the machine can read the hashes in API_KEYS_FILE={path} (chmod 600 {path})."
    ] * warned
    monkeypatch.setenv("API_KEYS_FILE", str(path))
    finding = Doctor(load_settings())._keys()
    assert (finding.level, "can read the hashes" in finding.seen) == ("warn" if warned else "ok", warned)


def test_key_file_in_a_private_folder_is_not_in_reach(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The permissions of the file do not matter if others cannot enter the folder."""
    path = key_file(shared, 0o644)
    shared.chmod(0o700)
    with caplog.at_level(logging.WARNING):
        Keyring({}, path)
    assert not caplog.records


def test_start_refuses_the_file_in_one_sentence(shared: Path) -> None:
    """The service does not start, and the sentence says what helps."""
    path = key_file(shared, 0o622)
    sentence = f"API_KEYS_FILE={path} cannot be used: other users can write to it; take that from them"
    ended = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "FILE_STORAGE_DIR": f"{shared}/files", "API_KEYS_FILE": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, f"{sentence} (chmod go-w {path}).\n")


def test_doctor_reports_a_key_file_that_others_can_write(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding says what to do."""
    path = key_file(shared, 0o602)
    monkeypatch.setenv("API_KEYS_FILE", str(path))
    finding = Doctor(load_settings())._keys()
    assert finding.level == "fail"
    assert "other users can write to it" in finding.seen


def test_keys_stay_valid_while_others_can_write_to_the_file(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that somebody has changed while the service runs is not read."""
    path = key_file(shared)
    keyring = Keyring({}, path)
    path.write_text(LINE + f"mallory:sha256:{digest('key of mallory').hex()}\n")
    path.chmod(0o666)
    assert keyring.find([(b"x-api-key", b"key of alice")]).owner == "alice"
    assert set(keyring._keys) == {"alice"}
    assert "other users can write to it" in caplog.text
