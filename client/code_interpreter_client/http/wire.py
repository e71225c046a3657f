"""From JSON to the dataclasses of `models`. Unknown fields are ignored; missing ones get their defaults."""

import dataclasses
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from code_interpreter_client.errors import BadAnswer

T = TypeVar("T")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def read(kind: type[T], body: object) -> T:
    """Return `body` as a `kind`, which is a dataclass.

    Raises:
        BadAnswer: a field has the wrong type, or one without a default is missing.
    """
    if not isinstance(body, dict):
        raise BadAnswer(f"{kind.__name__} is not a JSON object")
    values = {}
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = field.metadata.get("wire", field.name)
        if name in body:
            values[field.name] = _value(hints[field.name], body[name], f"{kind.__name__}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BadAnswer(f"{kind.__name__}.{name} is missing")
    return kind(**values)


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        hint = next(one for one in arguments if one is not type(None))
        return _value(hint, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return value
    if origin is Literal:
        # A newer service may send a value that this version does not know.
        origin, hint = None, str
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value)
    if hint is float and type(value) is int:
        return float(value)
    if origin is None and type(value) is hint:
        return value
    raise BadAnswer(f"{where} has the value {value!r:.80}")
