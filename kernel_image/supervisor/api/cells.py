"""Routes of cells: begin one, follow its frames, answer its input requests, end it."""

import contextlib
import json

import tornado.websocket
from tornado.iostream import StreamClosedError

from kernel_image.supervisor.api.handler import Handler


class CellsHandler(Handler, tornado.websocket.WebSocketHandler):
    """/cells: a WebSocket for all cells of a kernel. An HTTP request would cost more than a short cell."""

    _collects_message = False
    """Whether the last request was for a kernel message and not for a cell."""

    def open(self) -> None:
        self.set_nodelay(True)

    def on_close(self) -> None:
        # Only the service knows when the kernel has handled a message, so its connection limits the cell.
        if self._collects_message:
            self.supervisor.end_cell()

    async def on_message(self, message: str | bytes) -> None:
        request = json.loads(message)
        command = request.pop("command", None)
        self._collects_message = collects_message = request.pop("is_message", False)
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            if self.supervisor.busy:
                return await self._refuse_cell(409, "a cell is running")
            if command is None and self.supervisor.kernel.pid is None:
                return await self._refuse_cell(410, "the kernel has ended")
            cell = self.supervisor.begin_cell(request, is_command=command is not None)
            if command is not None:
                await self.supervisor.start_command(command)
            elif not collects_message:
                self.supervisor.start_in_kernel(cell)
            await self.write_message("{}")
            async for frames in cell.frames():
                await self.write_message(frames, binary=True)

    async def _refuse_cell(self, status: int, error: str) -> None:
        await self.write_message(json.dumps({"error": error, "status": status}))


class LastCellHandler(Handler):
    """/cell"""

    def get(self) -> None:
        if self.supervisor.cell is None:
            return self.refuse(404, "no cell has run yet")
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


class AnswerHandler(Handler):
    """/cell/answer"""

    def post(self) -> None:
        try:
            self.supervisor.kernel.send_command({"answer": self.json()["value"]})
        except OSError as error:
            return self.refuse(409, error)
        self.finish({})


class EndCellHandler(Handler):
    """/cell/settle"""

    def post(self) -> None:
        self.supervisor.end_cell()
        self.finish({})
