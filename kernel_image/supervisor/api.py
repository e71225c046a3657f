"""The HTTP API of PID 1, which never runs user code.

    POST   /kernel            start a kernel, or replace it; answers once it listens
    DELETE /kernel            kill it and everything else of the user's
    POST   /scrub             as new, then a kernel as /kernel does; 409: it can't be made as new
    POST   /interrupt         SIGINT to what runs and the children in its group; {"kill": true}: SIGKILL
    GET    /cells             WebSocket: begins cells, one after the other, see below
    GET    /cell              {"note": str} of the last cell; 404 if there was none
    GET    /cell/{id}         the frames of the last cell, from the first, also while it runs
    POST   /cell/settle       end the running cell, if its kernel has not done so: its last frame follows
    POST   /cell/answer       answer what the code asks
    GET    /files             all regular files: {"files": [{"path", "size_bytes", "modified_at"}]}
    PUT    /files/{path}      write a file; it is an output of a cell only if the code changes it
    GET    /files/{path}      read one
    DELETE /files/{path}      delete one
    POST   /rename            {"path": str, "to": str}
    POST   /lease             live on for that long
    GET    /status            {"kernel": pid | null, "memory_bytes": int}
    GET    /identity          {"proof": str} of the certificate, without a token; 404 where there is no TLS

Bodies are JSON: {"key": str} for /kernel and /scrub, with {"preload": [module, ...], "idle_bytes": int}
for a first kernel, {"seconds": float} for /lease, {"value": str} for an answer. Each request carries
`Authorization: Bearer TOKEN`. Errors are {"error": str} with 4xx, 503 or 507.

A cell is asked for on the WebSocket by {"cell_id": str, "output_bytes": int, "cpu_seconds": float,
"memory_bytes": int, "note": str} and, to run that in a shell instead of the kernel, {"command": str};
such a cell ends with its process. With {"is_message": true} no cell is begun in the kernel: what it
prints while it handles a message is gathered, until it is settled. The answer is {} and the cell's
frames in binary messages, any number in one; or {"error": str, "status": int}, 410 if the kernel has ended,
and nothing has run.
"""

import contextlib
import errno
import hashlib
import hmac
import json
import os
import signal
from collections.abc import Awaitable
from typing import Any, Final
from urllib.parse import unquote

import tornado.web
import tornado.websocket
from tornado.iostream import StreamClosedError

from kernel_image.confinement import cgroup
from kernel_image.supervisor.kernel_process import KernelFailed
from kernel_image.supervisor.scrub import NotClean
from kernel_image.supervisor.supervisor import Supervisor
from kernel_image.supervisor.workspace import NotRegular

_CHUNK_BYTES: Final = 1 << 17
_REQUEST_BYTES: Final = 1 << 30
"""The service bounds its requests itself."""


class Handler(tornado.web.RequestHandler):
    """Checks the token and turns errors into JSON."""

    def initialize(self, supervisor: Supervisor, token_digest: str) -> None:
        self.supervisor = supervisor
        self._token_digest = token_digest

    def prepare(self) -> Awaitable[None] | None:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode()).hexdigest()
        if scheme != "Bearer" or not hmac.compare_digest(digest, self._token_digest):
            raise tornado.web.HTTPError(401)
        with contextlib.suppress(OSError, AttributeError):
            self.request.connection.stream.set_nodelay(True)  # type: ignore[union-attr]
        return None

    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.request.body or b"{}")
        return body

    def refuse(self, status: int, error: object) -> None:
        self.set_status(status)
        self.finish({"error": str(error)})


class KernelHandler(Handler):
    """/kernel"""

    async def post(self) -> None:
        try:
            await self.supervisor.kernel.start(**self.json())
        except KernelFailed as error:
            return self.refuse(503, error)
        self.finish({})

    async def delete(self) -> None:
        await self.supervisor.kernel.kill()
        self.finish({})


class ScrubHandler(Handler):
    """/scrub"""

    async def post(self) -> None:
        if self.supervisor.busy:
            return self.refuse(409, "a cell is running")
        try:
            await self.supervisor.scrub()
            await self.supervisor.kernel.start(self.json()["key"])
        except (NotClean, KernelFailed) as error:
            return self.refuse(409, error)
        self.finish({})


class InterruptHandler(Handler):
    """/interrupt"""

    def post(self) -> None:
        self.supervisor.interrupt(signal.SIGKILL if self.json().get("kill") else signal.SIGINT)
        self.finish({})


class LastCellHandler(Handler):
    """/cell"""

    def get(self) -> None:
        if self.supervisor.cell is None:
            return self.refuse(404, "there was no cell")
        self.finish({"note": self.supervisor.cell.note})


class CellHandler(Handler):
    """/cell/{id}"""

    async def get(self, cell_id: str) -> None:
        cell = self.supervisor.cell
        if cell is None or cell.cell_id != cell_id:
            return self.refuse(404, "that is not the last cell")
        with contextlib.suppress(StreamClosedError):
            await self.flush()
            async for frames in cell.frames():
                self.write(frames)
                await self.flush()
            await self.finish()


class CellsHandler(Handler, tornado.websocket.WebSocketHandler):
    """/cells. A standing connection: a request for each cell would cost more than the cell."""

    _is_of_message = False

    def open(self) -> None:
        self.set_nodelay(True)

    def on_close(self) -> None:
        """Nothing else would end what a message made run: only who sent it knows when that is over."""
        if self._is_of_message:
            self.supervisor.settle()

    async def on_message(self, message: str | bytes) -> None:
        request = json.loads(message)
        command = request.pop("command", None)
        self._is_of_message = is_message = request.pop("is_message", False)
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            if self.supervisor.busy:
                return await self._refuse_cell(409, "a cell is running")
            if command is None and self.supervisor.kernel.pid is None:
                return await self._refuse_cell(410, "the kernel has ended")
            cell = self.supervisor.begin_cell(request)
            if command is not None:
                await self.supervisor.run_command(command)
            elif not is_message:
                self.supervisor.let_kernel_begin(cell)
            await self.write_message("{}")
            async for frames in cell.frames():
                await self.write_message(frames, binary=True)

    async def _refuse_cell(self, status: int, error: str) -> None:
        await self.write_message(json.dumps({"error": error, "status": status}))


class AnswerHandler(Handler):
    """/cell/answer"""

    def post(self) -> None:
        try:
            self.supervisor.kernel.tell({"answer": self.json()["value"]})
        except OSError as error:
            return self.refuse(409, error)
        self.finish({})


class SettleHandler(Handler):
    """/cell/settle"""

    def post(self) -> None:
        self.supervisor.settle()
        self.finish({})


class LeaseHandler(Handler):
    """/lease"""

    def post(self) -> None:
        self.supervisor.renew_lease(float(self.json()["seconds"]))
        self.finish({})


class StatusHandler(Handler):
    """/status"""

    def get(self) -> None:
        kernel = self.supervisor.kernel
        self.finish({"kernel": kernel.pid, "memory_bytes": cgroup.resident_bytes()})


@tornado.web.stream_request_body
class FileHandler(Handler):
    """Streams a file in or out."""

    _descriptor = -1
    _part = ""
    _failure: OSError | None = None

    def prepare(self) -> Awaitable[None] | None:
        result = super().prepare()
        if self.request.method == "PUT":
            self._digest = hashlib.sha256()
            try:
                self._descriptor, self._part = self.supervisor.workspace.create(self._path())
            except OSError as error:
                # Answered when the body has come: a connection cut short would hide the reason.
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
            return self.refuse(_status_of(self._failure), self._failure)
        self.supervisor.workspace.staged(self._path(), self._descriptor, self._digest.digest())
        self.finish({})

    def delete(self, _: str) -> None:
        try:
            self.supervisor.workspace.delete(self._path())
        except OSError as error:
            return self.refuse(_status_of(error), error)
        self.finish({})

    async def get(self, _: str) -> None:
        try:
            self._descriptor, size = self.supervisor.workspace.open(self._path())
        except OSError as error:
            return self.refuse(_status_of(error), error)
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
            return self.refuse(_status_of(error), error)
        self.finish({})


def _status_of(error: OSError) -> int:
    if isinstance(error, NotRegular):
        return 409
    known = {
        errno.ENOENT: 404,
        errno.EACCES: 403,
        errno.ENOSPC: 507,
        errno.EDQUOT: 507,
        errno.EEXIST: 409,
    }
    return known.get(error.errno or 0, 400)


class IdentityHandler(tornado.web.RequestHandler):
    """/identity, for who does not know yet whether to tell the token."""

    def initialize(self, proof: str) -> None:
        self._proof = proof

    def get(self) -> None:
        self.finish({"proof": self._proof})


def application(
    supervisor: Supervisor, token_digest: str, proof: str | None = None
) -> tornado.web.Application:
    """The HTTP API of the container, for who knows the token with that SHA-256.

    `proof` is that of `kernel_image.supervisor.certificate`, where it is spoken to in TLS.
    """
    shared = {"supervisor": supervisor, "token_digest": token_digest}
    routes: list[Any] = [
        (r"/kernel", KernelHandler, shared),
        (r"/scrub", ScrubHandler, shared),
        (r"/interrupt", InterruptHandler, shared),
        (r"/cells", CellsHandler, shared),
        (r"/cell", LastCellHandler, shared),
        (r"/cell/settle", SettleHandler, shared),
        (r"/cell/answer", AnswerHandler, shared),
        (r"/cell/([0-9a-f]+)", CellHandler, shared),
        (r"/files", FileListHandler, shared),
        (r"/files/(.+)", FileHandler, shared),
        (r"/rename", RenameHandler, shared),
        (r"/lease", LeaseHandler, shared),
        (r"/status", StatusHandler, shared),
    ]
    if proof is not None:
        routes.append((r"/identity", IdentityHandler, {"proof": proof}))
    return tornado.web.Application(
        routes, log_function=lambda _: None, websocket_max_message_size=_REQUEST_BYTES
    )
