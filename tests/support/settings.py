"""Settings of a service that runs inside the tests' own process."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from service.settings import Settings
from service.settings.values import Group

_GROUPS: Final[dict[str, type[Group]]] = {group.name: group.type for group in fields(Settings)}  # type: ignore[misc]

FIELDS: Final[dict[str, FieldInfo]] = {
    name: field for group in _GROUPS.values() for name, field in group.model_fields.items()
}
"""Every setting, in the order of docs/settings.md."""


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Return settings that store below ``folder``, with ``changes`` by the names of the fields."""
    given = {
        "file_storage_dir": folder / "storage",
        "registry_key_file": folder / "key" / "registry.key",
        "database_url": None,
    } | changes
    assert given.keys() <= FIELDS.keys()
    groups: dict[str, Any] = {
        name: group(**{field: given[field] for field in group.model_fields.keys() & given.keys()})
        for name, group in _GROUPS.items()
    }
    return Settings(**groups)
