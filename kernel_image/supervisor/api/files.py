"""Routes of the workspace: list, write, read, delete and rename files."""

import contextlib
import hashlib
import os
from collections.abc import Awaitable
from typing import Final
from urllib.parse import unquote

import tornado.web
from tornado.iostream import StreamClosedError

from kernel_image.supervisor.api.handler import Handler

_CHUNK_BYTES: Final = 1 << 17


@tornado.web.stream_request_body
class FileHandler(Handler):
    """/files/{path}: streams a file in or out."""

    _descriptor = -1
    _part = ""
    _failure: OSError | None = None

    def prepare(self) -> Awaitable[None] | None:
        result = super().prepare()
        if self.request.method == "PUT":
            self._digest = hashlib.sha256()
            try:
                self._descriptor, self._part = self.supervisor.workspace.create_part(self._path())
            except OSError as error:
                # Reported after the whole body was read: closing the connection early would hide the reason.
                self._failure = error
        return result

    def _path(self) -> str:
        return unquote(self.request.path.removeprefix("/files/"))

    def data_received(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        try:
            while chunk and self._failure is None:
                chunk = chunk[os.write(self._descriptor, chunk) :]
        except OSError as error:
            self._failure = error

    def put(self, _: str) -> None:
        if self._failure is None:
            try:
                self.supervisor.workspace.put_in_place(self._part, self._path())
            except OSError as error:
                self._failure = error
        if self._failure is not None:
            self._remove_part()
            return self.refuse_os_error(self._failure)
        self.supervisor.workspace.remember_input(self._path(), self._descriptor, self._digest.digest())
        self.finish({})

    def delete(self, _: str) -> None:
        try:
            self.supervisor.workspace.delete(self._path())
        except OSError as error:
            return self.refuse_os_error(error)
        self.finish({})

    async def get(self, _: str) -> None:
        try:
            self._descriptor, size = self.supervisor.workspace.open(self._path())
        except OSError as error:
            return self.refuse_os_error(error)
        self.set_header("Content-Length", str(size))
        self.set_header("Content-Type", "application/octet-stream")
        while size > 0:
            data = os.read(self._descriptor, min(_CHUNK_BYTES, size))
            if not data:
                break
            size -= len(data)
            self.write(data)
            with contextlib.suppress(StreamClosedError):
                await self.flush()
        if size > 0:
            # User code has shortened the file. Closing the connection shows that bytes are missing.
            self.request.connection.stream.close()  # type: ignore[union-attr]
        else:
            self.finish()

    def _remove_part(self) -> None:
        if self._part:
            with contextlib.suppress(OSError):
                self.supervisor.workspace.delete(self._part)

    def on_finish(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def on_connection_close(self) -> None:
        if self.request.method == "PUT" and self._descriptor >= 0:
            self._remove_part()
        self.on_finish()


class FileListHandler(Handler):
    """/files"""

    def get(self) -> None:
        self.finish({"files": self.supervisor.workspace.listing()})


class RenameHandler(Handler):
    """/rename"""

    def post(self) -> None:
        request = self.json()
        try:
            self.supervisor.workspace.rename(request["path"], request["to"])
        except OSError as error:
            return self.refuse_os_error(error)
        self.finish({})
