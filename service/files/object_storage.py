"""Stored files in an object storage with the S3 API. Only this module imports `obstore`.

A file is one object, ``files/<file_id>``. A small file is put in one request. A larger one is sent in
parts as they arrive, and appears when the last part is there.
"""

import asyncio
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
from service.files.object_draft import PART_BYTES, Abandoned, ObjectDraft
from service.files.storage import FILE_ID
from sessions.errors import StorageFailed, StorageFull
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_PARTS_AT_ONCE: Final = 2
_READ_BYTES: Final = 4 * 1024 * 1024
"""Bytes that a download requests at a time, so that a slow reader holds no connection."""
_CHUNK_BYTES: Final = 256 * 1024
_FILES: Final = "files/"
_LISTING_SEC: Final = 900.0
"""Seconds between two listings: a listing takes a request for each thousand files."""
_OWNER: Final = "registry"
"""Name of the object that holds the id of the registry to which the files belong."""
_CONNECT_SEC: Final = 5
_REQUEST_SEC: Final = 60
_RETRY_SEC: Final = 10
_RETRIES: Final = 3
_FULL: Final = ("507 Insufficient Storage", "XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity")
"""Texts by which servers report that they are full. Amazon's never is."""


class ObjectStorage:
    """`service.files.storage.Storage` below an ``s3://bucket/prefix``."""

    def __init__(self, url: str, endpoint: str | None = None, link_sec: int = 0) -> None:
        """Prepare a storage that connects when it is first used.

        The credentials come from the variables and files that AWS' own programs read.

        Args:
            endpoint: URL of the server; None for Amazon's.
            link_sec: seconds for which download links are valid; 0 for no links.

        Raises:
            ObjectStorageMissing: obstore is not installed.
            ObjectStorageUnavailable: the URL or the credentials are invalid.
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

    def draft(self, file_id: str, filename: str) -> ObjectDraft:
        return ObjectDraft(self, _key(file_id), filename)

    async def open(self, file_id: str) -> "ObjectContent":
        with self._errors():
            found = await self._api.head_async(self._store, _key(file_id))
        return ObjectContent(self, _key(file_id), found["size"])

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
            # The file has no row any more, so the next sweep tries again.
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
        # Parts of an unfinished upload cannot be listed as files. The bucket's lifecycle removes them.
        return 0

    async def close(self) -> None:
        await self._ending.wait()

    # --- for drafts and contents ------------------------------------------------------------------

    async def put(self, key: str, content: bytes | AsyncIterator[bytes], filename: str) -> None:
        """Store an object, in parts if the content is an iterator."""
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
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    async def read(self, key: str, start: int, end: int) -> memoryview:
        """Return the bytes of an object from `start` up to, not including, `end`."""
        with self._errors():
            return memoryview(await self._api.get_range_async(self._store, key, start=start, end=end))

    def discard(self, key: str, before: "asyncio.Task[None] | None") -> None:
        """Remove an object in the background, once the task ``before`` has ended."""

        async def remove() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._delete(key)

        self._ending.start(remove())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (Abandoned, FileNotFoundError):
            raise
        except Exception as error:
            said = str(error)
            log.error("%s: %s", self.place, _line(error))
            if any(word in said for word in _FULL):
                raise StorageFull(_line(error)) from error
            raise StorageFailed("the object storage refused the request") from error


class ObjectContent:
    """`service.files.storage.Content` of one object. A deletion ends a download that is under way."""

    def __init__(self, storage: ObjectStorage, key: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._storage = storage
        self._key = key

    def close(self) -> None:
        """Do nothing: no connection is held."""

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        for first in range(start, end, _READ_BYTES):
            block = await self._storage.read(self._key, first, min(first + _READ_BYTES, end))
            for at in range(0, len(block), _CHUNK_BYTES):
                yield bytes(block[at : at + _CHUNK_BYTES])


def _key(file_id: str) -> str:
    assert FILE_ID.fullmatch(file_id)
    return _FILES + file_id


def _line(error: Exception) -> str:
    """Return the message of the library in one line, without its debugging output."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
