"""The OpenAPI document: FastAPI's document, with the events of streams, the errors and the API keys added."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from service.auth.errors import KeyInvalid, KeyMissing, TooManyRequests, TooManyWrongKeys
from service.http.errors import ForeignOrigin, HostNotAllowed
from service.http.refusals import add
from service.routes.schemas.errors import ErrorBody, SessionEndedBody
from service.routes.schemas.stream import COMPONENTS

DESCRIPTION: Final = """\
`POST /v1/execute` runs code in its own kernel. A session keeps the variables between calls: create one with
`POST /v1/sessions`, then call `…/execute`. Upload files with `POST /v1/files`, or directly into the workspace
of a session, which is the folder in which its code runs. Files that the code writes are returned with ids.

An error is `{"detail": …, "code": …}`: `detail` is for people, `code` is stable. Every response has an
`X-Request-ID` header, and the response of an execution also has `X-Execution-ID`. If API keys are set,
a request needs `Authorization: Bearer KEY` or `X-API-Key: KEY`.

OpenAPI cannot describe these parts of the service:

- **`/mcp`** is the [Model Context Protocol](https://modelcontextprotocol.io) over streamable HTTP, for
  language models. Its tools are `run_python`, `run_shell`, files and `reset`. Each conversation has a
  session.
- **`/api/kernels/{kernel_id}/channels`** is a WebSocket with
  [Jupyter's messages](https://jupyter-client.readthedocs.io/en/stable/messaging.html), as
  `v1.kernel.websocket.jupyter.org` or in the default form. `jupyter lab --gateway-url=…` runs notebooks here.
  The parameter `session_id` names the client. A client that reconnects with the same name gets the messages
  that it missed.
- **`/`** is a web page to try the service.
"""
TAGS: Final = [
    {"name": "execute", "description": "Run code in a fresh kernel, one program for each call."},
    {"name": "sessions", "description": "Kernels that are kept between calls, and their workspaces."},
    {"name": "files", "description": "Stored files: uploads of callers, and files that code wrote."},
    {"name": "executions", "description": "Recorded executions: code, outcome, and duration of each stage."},
    {"name": "jupyter", "description": "Sessions as kernels of Jupyter's REST API."},
    {"name": "health", "description": "Status for probes, and metrics for Prometheus."},
]

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_, _ERRORS = models_json_schema(
    [(ErrorBody, "serialization"), (SessionEndedBody, "serialization")],
    ref_template="#/components/schemas/{model}",
)


def operation_id(route: APIRoute) -> str:
    """Return the name of a call, for generated clients: the function's, which two subjects may share."""
    is_shared = route.name in ("execute", "execute_stream") or route.name.endswith(("_file", "_files"))
    in_session = is_shared and route.path_format.startswith("/v1/sessions/{session_id}/")
    return f"{route.name}_in_session" if in_session else route.name


class Application(FastAPI):
    """A FastAPI application whose OpenAPI document has streams, errors and API keys.

    ``open_paths`` are the paths that need no key; None if the service has no keys.
    """

    open_paths: Collection[str] | None = None

    def openapi(self) -> dict[str, Any]:
        """Return the document. It is made at the first call."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(COMPONENTS | _ERRORS["$defs"])
            if self.open_paths is None:
                _declare_browsers(document)
            else:
                _declare_keys(document, self.open_paths)
        return super().openapi()


def _declare_browsers(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            add(operation["responses"], HostNotAllowed, ForeignOrigin)


def _declare_keys(document: dict[str, Any], open_paths: Collection[str]) -> None:
    document["components"]["securitySchemes"] = _SCHEMES
    document["security"] = [{scheme: []} for scheme in _SCHEMES]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in open_paths:
                operation["security"] = []
                continue
            add(operation["responses"], KeyMissing, KeyInvalid, TooManyRequests, TooManyWrongKeys)
