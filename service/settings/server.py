"""Settings of the HTTP server and of the log."""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.settings.values import MIB, Group, Lower, Names, Upper

_HOST_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE)

LogFormat = Annotated[Literal["console", "json"], Lower]


class ServerSettings(Group):
    """The address, the log, and the limits of a connection."""

    host: str = Field("0.0.0.0", description="Address that the server listens on.")
    port: int = Field(
        8000, ge=0, le=65535, description="TCP port that the server listens on; `0` means any free port."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Upper] = Field(
        "INFO", description="Least severe level that is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR`."
    )
    log_format: LogFormat = Field(
        "console",
        description="`console`: lines for people; `json`: one JSON object a line, see observability.md.",
    )
    max_request_bytes: int = Field(
        4 * MIB, ge=1024, description="Largest body of a JSON request, in bytes; a larger one gets 413."
    )
    allowed_hosts: Names = Field(
        (),
        description="Further names by which browsers may address a service without keys, such as "
        "`code.example.org` or `*.example.org`. IP addresses, names without a dot, `.localhost`, `.svc`, "
        "`.cluster.local` and the machine's own name are always allowed.",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="Most connections that are open at once. For a further one, the server closes the one "
        "that has been idle for the longest time; if none is idle, it answers 429.",
    )
    client_timeout_sec: float = Field(
        30,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which the server closes a connection whose client sends half a request, "
        "or does not read the response.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a host's name: use NAME or *.NAME, without scheme, port or path, "
                    "and the xn-- form of a name that is not ASCII"
                )
        return names


class _LogSettings(BaseSettings):
    """``LOG_FORMAT`` alone, to log which of the other settings are invalid."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    log_format: LogFormat = "console"


def load_log_format() -> LogFormat:
    """Return ``LOG_FORMAT``, or ``"console"`` if it is invalid, too."""
    try:
        return _LogSettings().log_format
    except ValidationError:
        return "console"
