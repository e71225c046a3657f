"""The OpenAPI document, which knows the events of a stream, where a key is needed and how it is sent."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI

from service.stream_schemas import COMPONENTS

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_BODY: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
_REFUSALS: Final = {"401": "No key, or none that is valid", "429": "A limit of the key is reached"}


class Application(FastAPI):
    """FastAPI, whose document also tells of keys once ``open_paths`` is set: those that need none."""

    open_paths: Collection[str] | None = None

    def openapi(self) -> dict[str, Any]:
        """The document; it is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            document.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
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
            for status, description in _REFUSALS.items():
                operation["responses"].setdefault(status, {"description": description, "content": _BODY})
