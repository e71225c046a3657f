"""The files in the workspace of an open session."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sessions.models import WorkspaceEntry
from sessions.session.state import SessionState


class SessionFiles:
    """Access to the workspace while the session is open.

    The container may serve another session later. Therefore no call reaches it once the session has ended,
    and a container that a call still works on is not used again.

    Raises:
        Exception: every method raises the error that the session was closed with.
        SupervisorFailed: the container does not answer.
    """

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._calls = 0

    @property
    def is_in_use(self) -> bool:
        """Whether a call reads or writes files at the moment."""
        return self._calls > 0

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._state.closed is not None:
            raise self._state.closed
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def list_files(self) -> list[WorkspaceEntry]:
        """Return all regular files in the workspace."""
        with self._call():
            return await self._state.sandbox.list_files()

    @asynccontextmanager
    async def open_file(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the content of a file in chunks. Raises `WorkspaceFileNotFound` or `InvalidPath` on entry."""
        with self._call():
            async with self._state.sandbox.open_file(path) as chunks:
                yield chunks

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file. Raises `WorkspaceFull`, `InvalidPath` or `WorkspaceFileNotFound`."""
        with self._call():
            await self._state.sandbox.put_file(path, content)

    async def delete_file(self, path: str) -> None:
        """Delete a file. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        with self._call():
            await self._state.sandbox.delete_file(path)

    async def rename_file(self, path: str, to: str) -> None:
        """Move a file to a free path. Raises `WorkspaceFileNotFound`, `InvalidPath` or `WorkspaceFull`."""
        with self._call():
            await self._state.sandbox.rename_file(path, to)
