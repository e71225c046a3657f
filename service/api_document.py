"""The OpenAPI document: FastAPI's, with a stream's events, what errors look like, and who needs a key."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from service.errors import KeyInvalid, KeyMissing, TooManyRequests
from service.routes.refusals import add
from service.schemas import ErrorBody
from service.session_schemas import SessionEndedBody
from service.stream_schemas import COMPONENTS

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
