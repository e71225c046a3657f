"""Stored files: uploads, and files that executions created.

The bytes are in a storage, and the names and dates in the registry. A file is published in the storage before
its row is added. So every row has its bytes, and a file that a crash leaves without a row is swept.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from service.database.registries.file_registry import FileRegistry
from service.database.registries.records import FilePage
from service.files.digest import verify
from service.files.media_types import guess_media_type
from service.files.quota import StorageQuota
from service.files.storage import FILE_ID, Content, Draft, Storage
from sessions import clock
from sessions.errors import FileDamaged, FileNotFound, FileTooLarge
from sessions.records import FileOrigin, StoredFile
from sessions.tasks import finish

log = logging.getLogger(__name__)

# Bytes that are written in one step. Most files are smaller.
_WRITE_BLOCK = 1024 * 1024

# Seconds for which a file without a row is kept, because another process may be about to add the row.
_GRACE_SEC = 15 * 60


@dataclass(frozen=True)
class Swept:
    """The numbers of files that one sweep removed."""

    expired: int
    orphans: int
    """Files without a row."""
    unfinished: int
    """Drafts that a process left when it died."""
    lost: int
    """Rows without a file."""


class OpenFile:
    """A stored file that is open for reading. Close it after use."""

    def __init__(self, stored: StoredFile, content: Content) -> None:
        self.stored = stored
        self._content = content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._content.close()

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to, not including, ``end`` (None: the end of the file)."""
        left = (self.stored.size_bytes if end is None else end) - start
        async for chunk in self._content.chunks(start, start + left):
            left -= len(chunk)
            yield chunk
        if left:
            raise OSError(f"file {self.stored.file_id} is shorter than its row says")


class FileStore:
    """Files in a storage, with their names and dates in the registry. Only its owner can read a file."""

    def __init__(
        self,
        storage: Storage,
        registry: FileRegistry,
        max_bytes: int,
        ttl_sec: int | None,
        quota: StorageQuota | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """Store files in `storage`.

        Args:
            max_bytes: size of the largest file.
            ttl_sec: seconds until a file expires; None or 0 means never.
            quota: limit on the files of an owner.
            is_shared: replicas use the same storage and registry.
        """
        self.max_bytes = max_bytes
        self.storage = storage
        self._registry = registry
        self._ttl_sec = ttl_sec
        self._quota = quota or StorageQuota()
        self.is_shared = is_shared
        self._stored_files = self._stored_bytes = 0
        self._being_saved: set[str] = set()

    async def count_stored(self) -> None:
        """Count the stored files, at the start and again when replicas may have stored more."""
        stored = await self._registry.sizes()
        self._quota.load(stored)
        self._stored_files = sum(files for files, _ in stored.values())
        self._stored_bytes = sum(size for _, size in stored.values())

    def stored(self) -> tuple[int, int]:
        """Return the number of files and their total size in bytes, of all owners."""
        return self._stored_files, self._stored_bytes

    async def save(
        self,
        chunks: AsyncIterable[bytes],
        filename: str,
        *,
        owner: str,
        origin: FileOrigin = "upload",
        execution_id: str | None = None,
        media_type: str | None = None,
    ) -> StoredFile:
        """Store the bytes that ``chunks`` yields. See `sessions.ports.StoredFiles.save`."""
        file_id = str(uuid.uuid4())
        draft = self.storage.draft(file_id, filename)
        if self.is_shared and self._quota.is_limited:
            self._quota.load_one(owner, *await self._registry.size_of(owner))
        self._being_saved.add(file_id)
        try:
            with self._quota.new_file(owner) as count:
                rest = await self._write(draft, chunks, count)
                await draft.publish(rest)
                created_at = clock.now()
                stored = StoredFile(
                    file_id=file_id,
                    filename=filename,
                    size_bytes=draft.size_bytes,
                    sha256=draft.sha256,
                    media_type=media_type or guess_media_type(filename),
                    created_at=created_at,
                    expires_at=created_at + self._ttl_sec if self._ttl_sec else None,
                    origin=origin,
                    execution_id=execution_id,
                    owner=owner,
                    ends_sha256=draft.ends_sha256,
                )
                await self._register(stored)
                self._stored_files += 1
                self._stored_bytes += stored.size_bytes
                return stored
        except BaseException:
            draft.discard()
            raise
        finally:
            self._being_saved.discard(file_id)

    async def get(self, file_id: str, owner: str) -> StoredFile:
        """Return the owner's file of this id. Raises ``FileNotFound``, also once the file has expired."""
        if not FILE_ID.fullmatch(file_id):
            raise FileNotFound(file_id)
        stored = await self._registry.get(file_id, owner)
        if stored.expires_at is not None and stored.expires_at <= clock.now():
            raise FileNotFound(file_id)
        return stored

    async def list_files(self, owner: str, limit: int, after: str | None = None) -> FilePage:
        """Return a page of the owner's files, oldest first; see ``FileRegistry.page``."""
        return await self._registry.page(owner, limit, after, now=clock.now())

    async def open(self, file_id: str, owner: str) -> OpenFile:
        """Open a file of the owner's for reading, and check that nobody has changed it in the storage.

        Raises:
            FileNotFound: the owner has no such file.
            FileDamaged: the file differs from the one that was stored, as far as `verify` compares it.
            StorageFailed: the storage fails.
        """
        stored = await self.get(file_id, owner)
        try:
            content = await self.storage.open(file_id)
        except FileNotFoundError:
            raise FileNotFound(file_id) from None
        try:
            verified, ends_sha256 = await verify(content, stored)
            if ends_sha256 is not None and stored.ends_sha256 is None:
                await self._registry.set_ends(file_id, ends_sha256)
        except BaseException as error:
            content.close()
            if isinstance(error, FileDamaged):
                log.error("file %s was changed in %s and is not served", file_id, self.storage.place)
            raise
        return OpenFile(stored, verified)

    async def link(self, file_id: str, owner: str) -> str | None:
        """Return the storage's URL of a download; None if the service sends it. Raises ``FileNotFound``."""
        if not self.storage.gives_links:
            return None
        stored = await self.get(file_id, owner)
        return await self.storage.link(stored.file_id)

    async def delete(self, file_id: str, owner: str) -> bool:
        """Delete a file of the owner's; return False if there is none of this id, or it has expired."""
        try:
            await self.get(file_id, owner)
        except FileNotFound:
            return False
        return await self._remove(file_id)

    async def sweep(self, now: float, *, thorough: bool = True) -> Swept:
        """Remove the files that have expired at ``now`` and, if ``thorough``, those that crashes left.

        ``thorough`` lists all files of the storage.
        """
        expired = await self._registry.expired(now)
        for file_id in expired:
            await self._remove(file_id)

        if not thorough:
            return Swept(len(expired), 0, 0, 0)
        # Rows first: a file that is saved or deleted meanwhile then counts neither as lost nor as an orphan.
        registered = await self._registry.all_ids()
        present = await self.storage.dates()
        lost = [file_id for file_id in registered - present.keys() if await self._forget(file_id)]

        old = {file_id for file_id, date in present.items() if date < now - _GRACE_SEC}
        candidates = old - registered - self._being_saved
        orphans = candidates - await self._registry.known(candidates)
        await self.storage.remove(orphans)
        unfinished = await self.storage.remove_unfinished(now - _GRACE_SEC, self._being_saved)
        return Swept(len(expired), len(orphans), unfinished, len(lost))

    async def _write(
        self, draft: Draft, chunks: AsyncIterable[bytes], count: Callable[[int], None]
    ) -> list[bytes]:
        """Write the full blocks and return the rest, so that a small file is stored in one step."""
        received = held = 0
        block: list[bytes] = []
        async for chunk in chunks:
            received += len(chunk)
            held += len(chunk)
            if received > self.max_bytes:
                raise FileTooLarge(self.max_bytes)
            count(len(chunk))
            block.append(chunk)
            if held >= _WRITE_BLOCK:
                await draft.write(block)
                block, held = [], 0
        return block

    async def _register(self, stored: StoredFile) -> None:
        try:
            await finish(self._registry.add(stored))
        except asyncio.CancelledError:
            await finish(self._registry.delete(stored.file_id))
            raise

    async def _remove(self, file_id: str) -> bool:
        """Remove the row first, so that no caller gets a row without bytes."""
        known = await self._forget(file_id)
        await self.storage.remove({file_id})
        return known

    async def _forget(self, file_id: str) -> bool:
        stored = await self._registry.delete(file_id)
        if stored is not None:
            self._quota.forget(stored.owner, stored.size_bytes)
            self._stored_files -= 1
            self._stored_bytes -= stored.size_bytes
        return stored is not None
