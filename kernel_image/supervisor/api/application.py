"""The routes of the supervisor's HTTP API.

    POST   /kernel            start a kernel, or replace it; responds when it listens
    DELETE /kernel            kill the kernel and every other process of the user
    POST   /scrub             scrub the container, then start a kernel; 409: the container is not clean
    POST   /interrupt         SIGINT to the running code's process group; with {"kill": true}: SIGKILL
    GET    /cells             WebSocket that begins cells, one after the other, see below
    GET    /cell              {"note": str} of the last cell; 404 if there was none
    GET    /cell/{id}         all frames of the last cell, also while it runs
    POST   /cell/settle       end the running cell, if its kernel has not done so: its last frame follows
    POST   /cell/answer       answer the code's input request
    GET    /files             all regular files: {"files": [{"path", "size_bytes", "modified_at"}]}
    PUT    /files/{path}      write a file; it becomes an output of a cell only if the code changes it
    GET    /files/{path}      read a file
    DELETE /files/{path}      delete a file
    POST   /rename            {"path": str, "to": str}
    POST   /lease             renew the lease
    POST   /idle              between cells: the user's processes get their whole CPU budget again
    GET    /status            {"kernel": pid | null, "memory_bytes": int, "failed_preloads": [module, ...]}
    GET    /identity          {"proof": str} of the certificate, needs no token; 404 without TLS

Bodies are JSON: {"key": str} for /kernel and /scrub, with {"preload": [module, ...], "idle_bytes": int}
for a first kernel, {"seconds": float} for /lease, {"value": str} for an answer. Each request carries
`Authorization: Bearer TOKEN`. Errors are {"error": str} with 4xx, 503 or 507.

The service begins a cell by the WebSocket message {"cell_id": str, "output_bytes": int,
"cpu_seconds": float, "memory_bytes": int, "note": str}. With {"command": str} the cell is a shell
command, which ends with its process. With {"is_message": true} the kernel does not begin a cell: the
supervisor collects what the kernel prints while it handles a message, until /cell/settle. The answer
is {} and the cell's frames in binary messages, one or more in each. It is {"error": str, "status":
int} if nothing was run: 409 while another cell runs, 410 if the kernel has ended.
"""

from typing import Any, Final

import tornado.web

from kernel_image.supervisor.api import cells, files, kernels
from kernel_image.supervisor.supervisor import Supervisor

_WEBSOCKET_MESSAGE_BYTES: Final = 1 << 30
"""No limit in effect: the service limits its requests itself."""


class IdentityHandler(tornado.web.RequestHandler):
    """/identity. It needs no token, because the service sends its token only after this proof."""

    def initialize(self, proof: str) -> None:
        self._proof = proof

    def get(self) -> None:
        self.finish({"proof": self._proof})


def application(
    supervisor: Supervisor, token_digest: str, proof: str | None = None
) -> tornado.web.Application:
    """Return the HTTP API of the container.

    Args:
        supervisor: carries out the requests.
        token_digest: SHA-256, in hex, of the token that each request must carry.
        proof: the proof of a `ContainerCertificate`; None without TLS.
    """
    shared = {"supervisor": supervisor, "token_digest": token_digest}
    routes: list[Any] = [
        (r"/kernel", kernels.KernelHandler, shared),
        (r"/scrub", kernels.ScrubHandler, shared),
        (r"/interrupt", kernels.InterruptHandler, shared),
        (r"/cells", cells.CellsHandler, shared),
        (r"/cell", cells.LastCellHandler, shared),
        (r"/cell/settle", cells.EndCellHandler, shared),
        (r"/cell/answer", cells.AnswerHandler, shared),
        (r"/cell/([0-9a-f]+)", cells.CellHandler, shared),
        (r"/files", files.FileListHandler, shared),
        (r"/files/(.+)", files.FileHandler, shared),
        (r"/rename", files.RenameHandler, shared),
        (r"/lease", kernels.LeaseHandler, shared),
        (r"/idle", kernels.IdleHandler, shared),
        (r"/status", kernels.StatusHandler, shared),
    ]
    if proof is not None:
        routes.append((r"/identity", IdentityHandler, {"proof": proof}))
    return tornado.web.Application(
        routes, log_function=lambda _: None, websocket_max_message_size=_WEBSOCKET_MESSAGE_BYTES
    )
