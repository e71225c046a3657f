"""The command ``keys``: adds, replaces, removes and lists the keys of a file.

A key is printed once, when it is made. The file has only its hash. A running service reads a changed
file without a restart.
"""

import argparse
import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from service.auth.keyring import digest, read_key_file
from service.errors import StartError
from service.settings import load_settings
from service.settings.api_keys import check_name

_PREFIX: Final = "ci_"
"""The start of every key, so that secret scanners can find keys in a repository."""
_KEY_BYTES: Final = 32


class _Refused(Exception):
    """The command cannot be carried out. The text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--file", type=Path, help="the file with the keys (default: API_KEYS_FILE)")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (
        ("add", "make a key for a name and print it; it is not shown again"),
        (
            "replace",
            "make a new key for a name; the old key becomes invalid, the data of the name is kept",
        ),
        ("remove", "remove the key of a name; the data of the name is kept until it expires"),
    ):
        commands.add_parser(command, help=text).add_argument("name", type=_name, metavar="NAME")
    commands.add_parser("list", help="print the names")


def main(arguments: argparse.Namespace) -> int:
    """Run the command. Return the exit status: 0, or 1 if the command fails."""
    try:
        path = _path(arguments.file)
        _COMMANDS[arguments.command](path, getattr(arguments, "name", ""))
    except (StartError, _Refused) as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.filename or path}: {error.strerror or error}")
    return 0


def _complain(text: str) -> int:
    sys.stderr.write(f"code-interpreter-api keys: {text}\n")
    return 1


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _path(given: Path | None) -> Path:
    path = given or load_settings().keys.api_keys_file
    if path is None:
        raise _Refused("no key file is given: use --file FILE, or set API_KEYS_FILE")
    return path.resolve()


def _add(path: Path, name: str) -> None:
    key = _new_key()
    with _changing(path) as lines:
        if any(line.lower().startswith(f"{name}:".lower()) for line in lines):
            raise _Refused(f"{name!r} has a key already; use 'replace' to make a new one")
        lines.append(_line(name, key))
    _print_key(key, f"The key of {name!r}. Store it now: {path} has only its hash.")


def _replace(path: Path, name: str) -> None:
    key = _new_key()
    with _changing(path) as lines:
        lines[_existing(lines, name)] = _line(name, key)
    _print_key(key, f"The new key of {name!r}. The old key is no longer valid.")


def _remove(path: Path, name: str) -> None:
    with _changing(path) as lines:
        del lines[_existing(lines, name)]


def _list(path: Path, _: str) -> None:
    for name in read_key_file(path):
        sys.stdout.write(f"{name}\n")


def _new_key() -> str:
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def _line(name: str, key: str) -> str:
    return f"{name}:sha256:{digest(key).hex()}"


def _print_key(key: str, message: str) -> None:
    """Print the message to standard error and the key to standard output.

    So a script can write ``KEY=$(code-interpreter-api keys add NAME)``.
    """
    sys.stderr.write(f"{message}\n")
    sys.stdout.write(f"{key}\n")


_COMMANDS: Final[dict[str, Callable[[Path, str], None]]] = {
    "add": _add,
    "replace": _replace,
    "remove": _remove,
    "list": _list,
}


def _existing(lines: list[str], name: str) -> int:
    for index, line in enumerate(lines):
        if line.startswith(f"{name}:"):
            return index
    raise _Refused(f"{name!r} has no key; 'list' prints the names")


@contextmanager
def _changing(path: Path) -> Iterator[list[str]]:
    """Yield the lines of the file for changing, and replace the file with them at the end.

    A lock on the folder admits one process at a time.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            read_key_file(path)  # raises KeyFileInvalid, so that an invalid file is not changed
            lines = [line.strip() for line in path.read_text("utf-8").removesuffix("\n").split("\n")]
        else:
            lines = []
        yield lines
        _write(path, "".join(f"{line}\n" for line in lines))
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    """Replace the file, and keep its permissions and owner. Only its owner can read a new file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            with suppress(FileNotFoundError):
                before = path.stat()
                os.fchmod(descriptor, before.st_mode & 0o777)
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
