"""Settings of API keys: which are valid, and how much each may use."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from service.settings.api_keys import split_keys
from service.settings.values import MIB, Group, Pages


@dataclass(frozen=True)
class KeyLimits:
    """How much each key may use; 0 means no limit."""

    requests_per_minute: int = 0
    executions: int = 0
    sessions: int = 0
    storage_bytes: int = 0


class KeySettings(Group):
    """The keys, the pages that need none, and the limits of a key."""

    api_keys: SecretStr | None = Field(
        None,
        description="API keys, `NAME:KEY,NAME:KEY`. If neither this nor `API_KEYS_FILE` is set, no key is "
        "needed, see keys.md.",
    )
    api_keys_file: Path | None = Field(
        None, description="File with hashes of API keys, written by `code-interpreter-api keys add NAME`."
    )
    open_pages: Pages = Field(
        ("docs", "metrics", "page"),
        description="Pages that are served without a key; `none` for no page. Where no keys are set, a page "
        "that is not listed answers 404.",
    )
    key_requests_per_minute: int = Field(
        600,
        ge=0,
        description="Requests that one key may send in a minute; more get 429. `0` means no limit, here and "
        "in the next five.",
    )
    wrong_keys_per_minute: int = Field(
        60,
        ge=0,
        description="Wrong keys that one address may send in a minute; more get 429. A right key is never "
        "refused for it.",
    )
    key_max_executions: int = Field(
        8, ge=0, description="Executions of one key that may run or wait at the same time; more get 429."
    )
    key_max_sessions: int = Field(
        4, ge=0, description="Sessions of one key that may be open at the same time; more get 429."
    )
    key_storage_mb: int = Field(
        1024, ge=0, description="Total size of the stored files of one key, in MiB; more get 507."
    )
    key_history_mb: int = Field(
        256,
        ge=0,
        description="Total size of the cells of one key, in MiB: their code and results, and the code that "
        "`KEEP_CODE` keeps. Above it, the oldest of that code is removed, then the oldest results. It also "
        "holds where no key is needed.",
    )

    @field_validator("api_keys_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            split_keys(keys.get_secret_value())
        return keys

    @property
    def needs_key(self) -> bool:
        """Whether callers need an API key."""
        return self.api_keys is not None or self.api_keys_file is not None

    @property
    def given_keys(self) -> dict[str, str]:
        """The keys of ``API_KEYS`` by name."""
        return {} if self.api_keys is None else split_keys(self.api_keys.get_secret_value())

    @property
    def history_bytes(self) -> int:
        """``key_history_mb`` in bytes."""
        return self.key_history_mb * MIB

    @property
    def limits(self) -> KeyLimits:
        """The limits of each key; no limits where no key is needed."""
        if not self.needs_key:
            return KeyLimits()
        return KeyLimits(
            requests_per_minute=self.key_requests_per_minute,
            executions=self.key_max_executions,
            sessions=self.key_max_sessions,
            storage_bytes=self.key_storage_mb * MIB,
        )
