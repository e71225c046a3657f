"""Folders and files of other users, on a real file system. Another user is a process with another uid."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from service.private_paths.files import make_private_database, make_private_file
from service.private_paths.folders import check_private_folder, make_private_folder
from service.private_paths.trust import NotPrivate

SOMEBODY = 54_321
"""The id of a user and of a group without a name."""


@pytest.fixture
def as_root() -> None:
    """Skip the test if this user cannot give files to other users."""
    if os.geteuid():
        pytest.skip("this user may not give files away")


def mode(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def make(path: Path, permissions: int, owner: int = -1, group: int = -1) -> Path:
    """Make a folder with an owner and permissions."""
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(permissions)
    return path


def of_ours(folder: Path) -> Path:
    """Fill a folder as a service does, with loose permissions."""
    for name in ("files", "incoming"):
        (folder / name).mkdir()
    (folder / "registry.sqlite3").touch()
    return folder


@pytest.mark.parametrize("permissions", [0o755, 0o777, 0o1777, 0o750, 0o2775, 0o711, 0o701])
def test_own_folder_is_taken_from_others(permissions: int, shared: Path) -> None:
    """An empty folder and a folder with a registry become private, whatever their permissions."""
    empty = make(shared / "empty", permissions)
    used = of_ours(make(shared / "used", permissions))
    (used / "backups").mkdir()
    for folder in (empty, used):
        check_private_folder(folder)
        assert mode(folder) == permissions
        assert make_private_folder(folder) == folder
        assert mode(folder) & 0o777 == 0o700


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_missing_folders_are_created_private(umask: int, shared: Path) -> None:
    """The umask of the process does not matter, and the folders above the last one are private too."""
    before = os.umask(umask)
    try:
        made = make_private_folder(shared / "a" / "b" / ".." / "b" / "c")
    finally:
        os.umask(before)
    assert made == shared / "a" / "b" / "c"
    for folder in (made, *made.parents[:2]):
        assert mode(folder) == 0o700


def test_own_folder_with_other_contents_is_refused_and_stays(shared: Path) -> None:
    """A folder such as /srv keeps its permissions. The message says what to do, and then it works."""
    folder = make(shared / "srv", 0o755)
    (folder / "www").mkdir()
    with pytest.raises(NotPrivate, match=f"chmod 700 {folder}") as caught:
        make_private_folder(folder)
    assert str(caught.value).startswith(f"Cannot use {folder}: ") and "\n" not in str(caught.value)
    assert mode(folder) == 0o755
    folder.chmod(0o700)
    assert make_private_folder(folder) == folder


@pytest.mark.parametrize("path", ["/", "/tmp", "/var/tmp"])
def test_folders_for_everybody_are_refused_and_stay(path: str) -> None:
    """The folder of temporary files is never made private."""
    before = mode(Path(path))
    with pytest.raises(NotPrivate):
        make_private_folder(Path(path))
    assert mode(Path(path)) == before


@pytest.mark.parametrize("permissions", [0o777, 0o700, 0o1777, 0o755])
def test_folder_of_somebody_else_is_refused(permissions: int, shared: Path, as_root: None) -> None:
    """Its owner could read and change everything, also where the permissions are tight."""
    folder = make(shared / "theirs", permissions, SOMEBODY)
    for use in (make_private_folder, check_private_folder):
        with pytest.raises(NotPrivate, match=f"belongs to user {SOMEBODY}; .*chown 0 {folder}"):
            use(folder)
    assert (mode(folder), folder.stat().st_uid) == (permissions, SOMEBODY)


@pytest.mark.parametrize(
    ("permissions", "groups", "refusal"),
    [
        (0o770, (SOMEBODY + 1,), None),
        (0o2770, (SOMEBODY + 1,), None),
        (0o2775, (SOMEBODY + 1,), "other users can use it"),
        (0o777, (SOMEBODY + 1,), "other users can use it"),
        (0o770, (), "other users can use it"),
    ],
)
def test_folder_of_root_needs_a_group_of_ours(
    permissions: int, groups: tuple[int, ...], refusal: str | None, shared: Path, as_root: None
) -> None:
    """A volume often belongs to root and to a group that the service was given, as by `fsGroup`."""
    folder = make(shared / "volume", permissions, 0, SOMEBODY + 1)
    found = os.fork()
    if found == 0:
        os.setgroups(groups)
        os.setgid(SOMEBODY)
        os.setuid(SOMEBODY)
        try:
            make_private_folder(folder)
        except NotPrivate as error:
            os._exit(1 if refusal is not None and refusal in str(error) else 2)
        os._exit(0 if refusal is None else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(found, 0)[1]) == (0 if refusal is None else 1)
    assert mode(folder) == permissions


@pytest.mark.parametrize("permissions", [0o777, 0o773, 0o2777])
def test_folder_below_one_that_others_can_write_is_refused(permissions: int, shared: Path) -> None:
    """A user who can write to the parent folder can replace the folder. A sticky bit prevents that."""
    above = make(shared / "above", permissions)
    existing = make(above / "existing", 0o700)
    for folder in (existing, above / "missing", existing / "missing" / "deep"):
        with pytest.raises(NotPrivate, match=f"Cannot use {above}: other users can replace"):
            make_private_folder(folder)
    above.chmod(0o1777)
    for folder in (existing, above / "missing", existing / "deep"):
        assert mode(make_private_folder(folder)) == 0o700


def test_folder_below_one_of_somebody_else_is_refused(shared: Path, as_root: None) -> None:
    """The owner of the folder above can rename ours, and put another in its place."""
    above = make(shared / "home", 0o755, SOMEBODY)
    ours = make(above / "ours", 0o700)
    with pytest.raises(NotPrivate, match=f"Cannot use {above}: it belongs to user {SOMEBODY}"):
        make_private_folder(ours)


def test_folder_that_a_foreign_group_can_write_is_refused(shared: Path, as_root: None) -> None:
    """The members of a group that this process is not in can replace what is below."""
    above = make(shared / "above", 0o775, 0, SOMEBODY)
    with pytest.raises(NotPrivate, match="other users can replace"):
        make_private_folder(above / "ours")


def test_links_are_followed_only_from_trusted_users(shared: Path, as_root: None) -> None:
    """The folders above the target of a link are checked too."""
    real = make(shared / "real", 0o755)
    (shared / "link").symlink_to("real")
    assert make_private_folder(shared / "link" / "storage") == real / "storage"
    sticky = make(shared / "sticky", 0o1777)
    planted = sticky / "storage"
    planted.symlink_to(real)
    os.lchown(planted, SOMEBODY, SOMEBODY)
    with pytest.raises(NotPrivate, match="owns an entry in it"):
        make_private_folder(planted)
    loose = make(shared / "loose", 0o777)
    (shared / "to loose").symlink_to(loose / "storage")
    with pytest.raises(NotPrivate, match=f"Cannot use {loose}"):
        make_private_folder(shared / "to loose")
    (shared / "a").symlink_to("b")
    (shared / "b").symlink_to("a")
    with pytest.raises(NotPrivate, match="too many symbolic links"):
        make_private_folder(shared / "a")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", ".lock"])
def test_registry_with_a_file_of_somebody_else_is_refused(suffix: str, shared: Path, as_root: None) -> None:
    """SQLite would apply a write-ahead log of another user to the registry. A pipe is refused too."""
    foreign = shared / f"registry{suffix}"
    foreign.touch()
    os.chown(foreign, SOMEBODY, SOMEBODY)
    with pytest.raises(NotPrivate, match=f"Cannot use {foreign}: it belongs to user {SOMEBODY}"):
        make_private_database(shared / "registry")
    foreign.unlink()
    os.mkfifo(foreign)
    with pytest.raises(NotPrivate, match="not a regular file"):
        make_private_database(shared / "registry")


@pytest.mark.parametrize("permissions", [0o777, 0o1777])
def test_registry_in_a_folder_that_others_can_write_is_refused(permissions: int, shared: Path) -> None:
    """Another user could create a write-ahead log there between two starts, also with a sticky bit."""
    folder = make(shared / "loose", permissions)
    with pytest.raises(NotPrivate, match=f"Cannot use {folder}: other users can .* in it.*chmod go-w"):
        make_private_database(folder / "registry")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_registry_and_its_companions_are_private(exists: bool, shared: Path) -> None:
    """With any umask, and also where an earlier version made them readable for everybody."""
    before = os.umask(0)
    try:
        file = shared / "registry"
        if exists:
            with closing(sqlite3.connect(file)) as old:
                old.execute("PRAGMA journal_mode=WAL").close()
                old.execute("CREATE TABLE kept (x)")
                old.commit()
                make_private_database(file)
                assert {path.name for path in shared.iterdir()} == {
                    "registry",
                    "registry-wal",
                    "registry-shm",
                }
                assert {mode(path) for path in shared.iterdir()} == {0o600}
        make_private_database(file)
        (shared / "link").symlink_to("registry")
        make_private_database(shared / "link")
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA journal_mode=WAL").close()
            database.execute("CREATE TABLE more (x)")
            assert {mode(path) for path in shared.iterdir()} == {0o600}
    finally:
        os.umask(before)


def test_file_of_somebody_else_is_refused(shared: Path, as_root: None) -> None:
    """A missing file is nothing to do; an own one is taken from others."""
    file = shared / "file"
    make_private_file(file)
    file.touch()
    file.chmod(0o644)
    make_private_file(file)
    assert mode(file) == 0o600
    os.chown(file, SOMEBODY, -1)
    with pytest.raises(NotPrivate, match=f"chown 0 {file}"):
        make_private_file(file)
