"""Findings about the machine that the service runs on: disks, port, keys, clock."""

import os
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from service.doctor.finding import Finding, Level
from service.errors import StartError
from service.files.storage import Storage
from service.http.server.serving import bind
from service.operations.banner import base_url
from service.operations.errors import AddressUnavailable

_MIB: Final = 1 << 20
_FAIL_BYTES: Final = 100 * _MIB
_WARN_BYTES: Final = 1024 * _MIB
_FAIL_INODES: Final = 1000
_WARN_INODES: Final = 10_000
_SLOW_SEC: Final = 1.0
_ANSWER_SEC: Final = 5
_STEP_SEC: Final = 1.0
_EARLIEST: Final = 1_767_225_600.0
"""Start of 2026: a clock that shows an earlier time was never set."""
_LOOPBACK: Final = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Disk:
    """Free space of a file system. `inodes` is None if their number is not limited."""

    free_bytes: int
    inodes: int | None
    write_error: str | None = None
    write_sec: float = 0.0
    """Seconds to write and sync a small file."""


def inspect_disk(folder: Path, *, write: bool) -> Disk:
    """Measure the file system of a folder, which need not exist yet.

    With ``write``, also write and sync a file there, and remove it.

    Raises:
        OSError: the file system cannot be asked.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    inodes = found.f_favail if found.f_files else None
    disk = Disk(found.f_bavail * found.f_frsize, inodes)
    if not write:
        return disk
    began = time.monotonic()
    error = _write(folder / f".doctor-{uuid.uuid4().hex}")
    return Disk(disk.free_bytes, inodes, error, time.monotonic() - began)


async def check_storage(storage: Storage) -> Finding:
    """Write a small object to an object storage, and remove it."""
    began = time.monotonic()
    try:
        await storage.prepare()
    except StartError as error:
        return Finding("stored files", "fail", str(error), "see the storage's error, and its access policy")
    took_ms = 1000 * (time.monotonic() - began)
    return Finding("stored files", "ok", f"{storage.place}: written and removed in {took_ms:.0f} ms")


def _write(path: Path) -> str | None:
    try:
        with path.open("xb") as file:
            file.write(b"x" * 65_536)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        return error.strerror or str(error)
    return None


def judge_disk(check: str, folder: Path, disk: Disk, *, ours: bool) -> Finding:
    """Judge whether a disk has room and can be written. ``ours``: the service stores files there."""
    inodes = "any number of" if disk.inodes is None else disk.inodes
    seen = f"{folder}: {disk.free_bytes // _MIB} MiB and {inodes} inodes free"
    setting = " or set FILE_STORAGE_DIR to another disk" if ours else "; see `docker system df`"
    if disk.write_error is not None:
        help_ = "set FILE_STORAGE_DIR to a folder that this user can write"
        return Finding(check, "fail", f"{seen}; it cannot be written: {disk.write_error}", help_)
    level = _room(disk)
    if level != "ok":
        return Finding(check, level, seen, f"make room{setting}")
    if disk.write_sec > _SLOW_SEC:
        slow = f"{seen}; {disk.write_sec:.1f} s to write a small file to the disk"
        return Finding(check, "warn", slow, "each stored file waits that long: take a faster disk")
    return Finding(check, "ok", seen)


def _room(disk: Disk) -> Level:
    inodes = _WARN_INODES if disk.inodes is None else disk.inodes
    if disk.free_bytes < _FAIL_BYTES or inodes < _FAIL_INODES:
        return "fail"
    return "warn" if disk.free_bytes < _WARN_BYTES or inodes < _WARN_INODES else "ok"


async def check_port(host: str, port: int) -> Finding:
    """Judge whether the service can listen there, or does already."""
    try:
        # Bind only: listening would make a service that starts at this moment fail.
        bind(host, port).close()
    except AddressUnavailable as error:
        version = await _version_at(host, port)
        if version is not None:
            return Finding("port", "ok", f"{host}, port {port}: this service, version {version}, is up there")
        return Finding("port", "fail", str(error), "set HOST and PORT to an address that is free")
    return Finding("port", "ok", f"{host}, port {port} is free")


async def _version_at(host: str, port: int) -> str | None:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SEC)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{base_url(host, port)}/health") as answer,
        ):
            body = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return None
    is_ours = isinstance(body, dict) and {"status", "message", "version"} <= body.keys()
    return str(body["version"]) if is_ours else None


def judge_settings(unknown: Sequence[str]) -> Finding:
    """Judge the settings, which are valid. ``unknown`` has a sentence for each variable that is none."""
    if not unknown:
        return Finding("settings", "ok", "all are valid")
    return Finding("settings", "warn", " ".join(unknown), "correct or remove these variables")


def judge_keys(host: str, *, needs_key: bool) -> Finding:
    """Judge whether callers need a key if other machines can reach the service."""
    if needs_key:
        return Finding("keys", "ok", "callers need one")
    if host.startswith(_LOOPBACK):
        return Finding("keys", "ok", f"none, and only this machine reaches {host}")
    seen = f"none, and everyone who reaches {host} can run code and read every file"
    return Finding("keys", "warn", seen, "set API_KEYS or API_KEYS_FILE, or HOST=127.0.0.1")


class Stopwatch:
    """Compares the clock of the day with the monotonic clock, which is never set."""

    def __init__(self) -> None:
        self._wall, self._monotonic = time.time(), time.monotonic()

    def judge(self) -> Finding:
        """Judge the clocks since this object was made."""
        return judge_clocks(time.time(), time.time() - self._wall, time.monotonic() - self._monotonic)


def judge_clocks(now: float, wall_sec: float, monotonic_sec: float) -> Finding:
    """Judge whether the machine's clock is plausible, and was not set meanwhile."""
    help_ = "set the machine's clock by NTP"
    if now < _EARLIEST:
        return Finding("clock", "fail", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}", help_)
    if abs(wall_sec - monotonic_sec) > _STEP_SEC:
        seen = f"it was set by {wall_sec - monotonic_sec:+.1f} s within {monotonic_sec:.0f} s"
        return Finding("clock", "warn", seen, help_)
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def open_listener() -> socket.socket:
    """Open a port that the self-test tries to reach, instead of the service's port."""
    return socket.create_server(("0.0.0.0", 0))
