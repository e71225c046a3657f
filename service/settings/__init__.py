"""The settings of the service, read from the environment. No other package reads it.

Each group is a module of its own. A field has the name of its variable, so that a setting has one name
everywhere. A test holds the table in docs/settings.md against the fields.
"""

import os
import re
from dataclasses import dataclass, fields
from typing import Any, Final

from pydantic import ValidationError

from service.errors import SettingsInvalid
from service.settings.containers import ContainerSettings
from service.settings.engine import EngineSettings
from service.settings.execution import ExecutionSettings
from service.settings.keys import KeySettings
from service.settings.pool import PoolSizeSettings
from service.settings.replicas import ReplicaSettings
from service.settings.server import ServerSettings
from service.settings.sessions import SessionSettings
from service.settings.storage import StorageSettings
from service.settings.telemetry import TelemetrySettings
from service.settings.unknown import unknown_settings
from service.settings.values import without_password

_SECRETS: Final = ("api_keys", "registry_key", "replica_secret")


@dataclass(frozen=True)
class Settings:
    """All settings, in groups. Raises ``SettingsInvalid`` if two groups contradict each other."""

    server: ServerSettings
    keys: KeySettings
    execution: ExecutionSettings
    telemetry: TelemetrySettings
    storage: StorageSettings
    replicas: ReplicaSettings
    engine: EngineSettings
    containers: ContainerSettings
    pool: PoolSizeSettings
    sessions: SessionSettings

    def __post_init__(self) -> None:
        if not self.replicas.is_replica:
            return
        shared = {
            "DATABASE_URL of a PostgreSQL": (self.storage.database_url or "").startswith("postgres"),
            "FILE_STORAGE_URL": self.storage.file_storage_url is not None,
            "REPLICA_SECRET": self.replicas.replica_secret is not None,
        }
        missing = " and ".join(name for name, is_set in shared.items() if not is_set)
        if missing:
            raise SettingsInvalid((f"REPLICA_URL needs {missing}, the same for all.",))


def unknown_variables() -> tuple[str, ...]:
    """Return a sentence for each variable of the environment that looks like a setting and is none."""
    groups = (group.type for group in fields(Settings))
    names = {name.upper() for group in groups for name in group.model_fields}  # type: ignore[union-attr]
    return tuple(unknown_settings(os.environ, names))


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsInvalid: with one sentence for each variable that is invalid.
    """
    groups: dict[str, Any] = {}
    problems: list[str] = []
    for group in fields(Settings):
        try:
            groups[group.name] = group.type()  # type: ignore[operator]
        except ValidationError as error:
            problems += map(_sentence, error.errors())
    if problems:
        raise SettingsInvalid(tuple(problems))
    return Settings(**groups)


def _sentence(problem: Any) -> str:
    """Return one of pydantic's errors as a sentence that names the variable. It shows no secret."""
    message: str = problem["msg"].partition(", unable to parse")[0]
    if problem["type"] == "value_error":
        variable = f"{problem['loc'][0]}: ".upper() if problem["loc"] else ""
        return f"{variable}{message.removeprefix('Value error, ')}."
    message = re.sub("^(Input|String|Value) | items after validation", "", message)
    name = str(problem["loc"][0])
    if name in _SECRETS:
        return f"{name.upper()} {message}."
    return f"{name.upper()} {message}, but it is {without_password(repr(problem['input']))}."
