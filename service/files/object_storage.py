"""Stored files in an object storage that speaks S3. The one module that imports `obstore`, where it is used.

A file is one object, ``files/<file_id>``. Small ones are put in one request. Larger ones go in parts as they
come, and appear when the last part is there.
"""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from service.files.download_headers import content_disposition
from service.files.errors import ObjectStorageMissing, ObjectStorageTaken, ObjectStorageUnavailable
from service.files.media_types import OCTET_STREAM
from service.files.storage import FILE_ID
from sessions.errors import StorageFailed, StorageFull
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_PART_BYTES: Final = 5 * 1024 * 1024
"""S3 takes no smaller ones. What is smaller altogether is put in one request."""
_PARTS_AT_ONCE: Final = 2
_READ_BYTES: Final = 4 * 1024 * 1024
"""A download asks for so much at a time: who reads slowly holds that, and no connection."""
_CHUNK_BYTES: Final = 256 * 1024
_HASH_ON_THREAD: Final = 64 * 1024
_FILES: Final = "files/"
_LISTING_SEC: Final = 900.0
"""A request for each thousand files."""
_OWNER: Final = "registry"
"""The object that says whose files these are."""
_CONNECT_SEC: Final = 5
_REQUEST_SEC: Final = 60
_RETRY_SEC: Final = 10
_RETRIES: Final = 3
_FULL: Final = ("507 Insufficient Storage", "XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity")
"""What servers say that take no more. Amazon's never is full."""


class _Abandoned(Exception):
    """Nobody wants the object any more, whose parts are on their way."""


class ObjectStorage:
    """`service.files.storage.Storage` below an ``s3://bucket/prefix``."""

    def __init__(self, url: str, endpoint: str | None = None, link_sec: int = 0) -> None:
        """Connects later; credentials come from the variables and places where AWS' own programs look.

        Args:
            endpoint: the server, if it is not Amazon's.
            link_sec: how long links to download from are valid; 0: there are none.

        Raises:
            ObjectStorageMissing: obstore is not installed.
            ObjectStorageUnavailable: the URL makes no sense to it.
        """
        try:
            import obstore  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415
        except ImportError:
            raise ObjectStorageMissing from None
        self._api = obstore
        self._url = url
        self._link_sec = link_sec
        self._ending = BackgroundTasks()
        options: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
        try:
            self._store: S3Store = S3Store.from_url(
                url.rstrip("/"),
                client_options={
                    "allow_http": (endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=_CONNECT_SEC),
                    "timeout": timedelta(seconds=_REQUEST_SEC),
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SEC)},
                **options,
            )
        except Exception as error:
            raise ObjectStorageUnavailable(self.place, _line(error)) from error

    @property
    def place(self) -> str:
        parts = urlsplit(self._url)
        return urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))

    @property
    def listing_sec(self) -> float:
        return _LISTING_SEC

    @property
    def gives_links(self) -> bool:
        return self._link_sec > 0

    async def prepare(self) -> None:
        trial = f"trial-{uuid.uuid4()}"
        try:
            await self._api.put_async(self._store, trial, b"")
            await self._api.delete_async(self._store, trial)
        except Exception as error:
            raise ObjectStorageUnavailable(self.place, _line(error)) from error

    async def claim(self, registry_id: str) -> None:
        try:
            owner = await self._owner()
            if owner is None:
                await self._api.put_async(self._store, _OWNER, registry_id.encode())
                owner = await self._owner()
        except Exception as error:
            raise ObjectStorageUnavailable(self.place, _line(error)) from error
        if owner != registry_id.encode():
            raise ObjectStorageTaken(self.place)

    async def _owner(self) -> bytes | None:
        try:
            return bytes(await (await self._api.get_async(self._store, _OWNER)).bytes_async())
        except FileNotFoundError:
            return None

    async def any(self) -> bool:
        try:
            async for batch in self._api.list(self._store, _FILES, chunk_size=1):
                return bool(batch)
        except Exception as error:
            raise ObjectStorageUnavailable(self.place, _line(error)) from error
        return False

    def draft(self, file_id: str, filename: str) -> "ObjectDraft":
        return ObjectDraft(self, _key(file_id), filename)

    async def open(self, file_id: str) -> "ObjectContent":
        with self._errors():
            await self._api.head_async(self._store, _key(file_id))
        return ObjectContent(self, _key(file_id))

    async def link(self, file_id: str) -> str:
        with self._errors():
            lasts = timedelta(seconds=self._link_sec)
            return await self._api.sign_async(self._store, "GET", _key(file_id), lasts)

    async def remove(self, file_ids: Collection[str]) -> None:
        for file_id in file_ids:
            await self._delete(_key(file_id))

    async def _delete(self, key: str) -> None:
        try:
            await self._api.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except Exception as error:
            # Without a row it is nobody's: the next sweep tries again.
            log.warning("cannot remove %s from %s: %s", key, self.place, _line(error))

    async def dates(self) -> dict[str, float]:
        found: dict[str, float] = {}
        with self._errors():
            async for batch in self._api.list(self._store, _FILES):
                for item in batch:
                    name = item["path"].rpartition("/")[2]
                    if FILE_ID.fullmatch(name):
                        found[name] = item["last_modified"].timestamp()
        return found

    async def remove_unfinished(self, before: float, being_saved: Collection[str]) -> int:
        # Parts without an object are nowhere to be seen; the bucket's lifecycle removes them.
        return 0

    async def close(self) -> None:
        await self._ending.wait()

    # --- for drafts and contents ------------------------------------------------------------------

    async def put(self, key: str, content: bytes | AsyncIterator[bytes], filename: str) -> None:
        """Store an object, in parts if it comes so."""
        attributes = {
            "Content-Disposition": content_disposition(filename),
            "Content-Type": OCTET_STREAM,
        }
        with self._errors():
            await self._api.put_async(
                self._store,
                key,
                content,
                attributes=attributes,
                use_multipart=not isinstance(content, bytes),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    async def read(self, key: str, start: int, end: int) -> memoryview:
        """Some bytes of an object."""
        with self._errors():
            return memoryview(await self._api.get_range_async(self._store, key, start=start, end=end))

    def discard(self, key: str, before: "asyncio.Task[None] | None") -> None:
        """Have an object removed in the background, once ``before`` is over."""

        async def remove() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._delete(key)

        self._ending.start(remove())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (_Abandoned, FileNotFoundError):
            raise
        except Exception as error:
            said = str(error)
            log.error("%s: %s", self.place, _line(error))
            if any(word in said for word in _FULL):
                raise StorageFull(_line(error)) from error
            raise StorageFailed("the object storage does not do what it is asked") from error


class ObjectDraft:
    """Bytes on their way to an object."""

    def __init__(self, storage: ObjectStorage, key: str, filename: str) -> None:
        self.size_bytes = 0
        self._storage = storage
        self._key = key
        self._filename = filename
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._parts: asyncio.Queue[list[bytes] | None] = asyncio.Queue(1)
        self._putting: asyncio.Task[None] | None = None
        self._abandoned = asyncio.Event()
        self._is_begun = False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def write(self, block: list[bytes]) -> None:
        for piece in block:
            self.size_bytes += len(piece)
            self._held_bytes += len(piece)
            # A digest lets other threads run, but only on what is large enough to be worth while.
            if len(piece) > _HASH_ON_THREAD:
                await asyncio.to_thread(self._hash.update, piece)
            else:
                self._hash.update(piece)
        self._held += block
        if self._held_bytes >= _PART_BYTES:
            await self._pass_on()

    async def publish(self, rest: list[bytes]) -> None:
        await self.write(rest)
        if self._putting is None:
            self._is_begun = True
            await self._storage.put(self._key, b"".join(self._held), self._filename)
            return
        await self._pass_on()
        await self._offer(None)
        await asyncio.shield(self._putting)

    async def _pass_on(self) -> None:
        """Give what is held to the request that puts it, which is begun by the first."""
        held, self._held, self._held_bytes = self._held, [], 0
        if self._putting is None:
            self._is_begun = True
            putting = self._storage.put(self._key, self._stream(), self._filename)
            self._putting = asyncio.create_task(putting)
        await self._offer(held)

    async def _offer(self, part: list[bytes] | None) -> None:
        """Wait until a part is taken. Raises what made the request fail."""
        assert self._putting is not None
        offering = asyncio.create_task(self._parts.put(part))
        try:
            await asyncio.wait({offering, self._putting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            offering.cancel()
        if self._putting.done():
            self._putting.result()

    async def _stream(self) -> AsyncIterator[bytes]:
        while True:
            taking = asyncio.create_task(self._parts.get())
            giving_up = asyncio.create_task(self._abandoned.wait())
            await asyncio.wait({taking, giving_up}, return_when=asyncio.FIRST_COMPLETED)
            giving_up.cancel()
            if self._abandoned.is_set():
                taking.cancel()
                # An error makes the parts be removed that are there already.
                raise _Abandoned
            part = taking.result()
            if part is None:
                return
            yield b"".join(part)

    def discard(self) -> None:
        self._abandoned.set()
        if self._putting is not None:
            self._putting.add_done_callback(_heard)
        if self._is_begun:
            self._storage.discard(self._key, self._putting)


def _heard(task: "asyncio.Task[None]") -> None:
    """Nobody asks any more what became of it."""
    if not task.cancelled():
        task.exception()


class ObjectContent:
    """An object to read. Once deleted it is gone, also for who reads it."""

    def __init__(self, storage: ObjectStorage, key: str) -> None:
        self._storage = storage
        self._key = key

    def close(self) -> None:
        """There is nothing to let go of."""

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        for first in range(start, end, _READ_BYTES):
            block = await self._storage.read(self._key, first, min(first + _READ_BYTES, end))
            for at in range(0, len(block), _CHUNK_BYTES):
                yield bytes(block[at : at + _CHUNK_BYTES])


def _key(file_id: str) -> str:
    assert FILE_ID.fullmatch(file_id)
    return _FILES + file_id


def _line(error: Exception) -> str:
    """The first line of what the library says, without its debugging output."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
