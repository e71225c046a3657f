"""The OpenAPI document: FastAPI's, with a stream's events, what errors look like, and who needs a key."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from service.auth.errors import KeyInvalid, KeyMissing, TooManyRequests
from service.http.refusals import add
from service.routes.schemas.errors import ErrorBody, SessionEndedBody
from service.routes.schemas.stream import COMPONENTS

DESCRIPTION: Final = """\
Code runs with `POST /v1/execute`, in a kernel of its own, or in a session, whose variables stay:
`POST /v1/sessions`, then `…/execute`. Files go in by `POST /v1/files`, or straight into a session's working
folder; what code writes comes back as files with ids.

An error is `{"detail": …, "code": …}`: `detail` is for people, `code` is stable. Every answer has an
`X-Request-ID`, and that of an execution its `X-Execution-ID`. Where keys are set, a request has
`Authorization: Bearer KEY` or `X-API-Key: KEY`.

What this form of document can't describe:

- **`/mcp`** is the [Model Context Protocol](https://modelcontextprotocol.io) over streamable HTTP, for
  language models: `run_python`, `run_shell`, files and `reset`, in a session for each conversation.
- **`/api/kernels/{kernel_id}/channels`** is a WebSocket with
  [Jupyter's messages](https://jupyter-client.readthedocs.io/en/stable/messaging.html), as
  `v1.kernel.websocket.jupyter.org` or in the default form: `jupyter lab --gateway-url=…` runs notebooks here.
  `session_id` names the client: who comes back with the same gets what it has missed.
- **`/`** is a page to try it all in.
"""
TAGS: Final = [
    {"name": "execute", "description": "Code in a fresh kernel: one call, one program."},
    {"name": "sessions", "description": "Kernels that are kept between calls, and their working folders."},
    {"name": "files", "description": "Stored files: what callers uploaded, and what code wrote."},
    {"name": "executions", "description": "What ran, how long each stage of it took, how it ended."},
    {"name": "jupyter", "description": "Sessions, as Jupyter's REST API has kernels."},
    {"name": "health", "description": "For probes and for Prometheus."},
]

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_, _ERRORS = models_json_schema(
    [(ErrorBody, "serialization"), (SessionEndedBody, "serialization")],
    ref_template="#/components/schemas/{model}",
)


class Application(FastAPI):
    """FastAPI, whose document also tells of keys once ``open_paths`` is set: those that need none."""

    open_paths: Collection[str] | None = None

    def openapi(self) -> dict[str, Any]:
        """The document; it is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(COMPONENTS | _ERRORS["$defs"])
            if self.open_paths is not None:
                _declare_keys(document, self.open_paths)
        return super().openapi()


def _declare_keys(document: dict[str, Any], open_paths: Collection[str]) -> None:
    document["components"]["securitySchemes"] = _SCHEMES
    document["security"] = [{scheme: []} for scheme in _SCHEMES]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in open_paths:
                operation["security"] = []
                continue
            add(operation["responses"], KeyMissing, KeyInvalid, TooManyRequests)
