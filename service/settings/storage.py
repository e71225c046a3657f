"""Settings of the state: stored files, and the registry."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from service.settings.values import MIB, Group, without_password


class StorageSettings(Group):
    """Where stored files and the registry are, and how long and how large files may be."""

    max_file_size_mb: int = Field(10, ge=1, description="Largest file, up or down, in MiB.")
    file_storage_dir: Path = Field(
        Path("/tmp/code-interpreter-files"),
        description="Folder of the stored files and, by default, of the registry.",
    )
    file_storage_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?$",
        description="`s3://bucket/prefix` stores files in an object storage, see scale.md; unset means "
        "`FILE_STORAGE_DIR`.",
    )
    aws_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="URL of an S3 server other than Amazon's. The other `AWS_*` variables, for credentials "
        "and region, have their standard meaning.",
    )
    file_storage_link_sec: int = Field(
        0,
        ge=0,
        le=604_800,
        description="Seconds for which a download link to the object storage is valid; downloads are "
        "redirected to such a link. `0`: the service sends the bytes itself.",
    )
    file_ttl_sec: int = Field(3600, ge=0, description="Seconds until a stored file expires; `0` means never.")
    database_url: str | None = Field(
        None,
        description="URL of the registry, `sqlite:///…` or `postgresql://…`, see scale.md; unset means "
        "`registry.sqlite3` in `FILE_STORAGE_DIR`.",
    )

    registry_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Key that encrypts the containers' tokens in the registry, see security.md. Unset means "
        "`REPLICA_SECRET`, or else the contents of `REGISTRY_KEY_FILE`.",
    )
    registry_key_file: Path = Field(
        Path("~/.local/state/code-interpreter/registry.key"),
        description="File with that key. The first start creates it; it must not be in `FILE_STORAGE_DIR`.",
    )

    @field_validator("file_storage_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def max_file_bytes(self) -> int:
        """``max_file_size_mb`` in bytes."""
        return self.max_file_size_mb * MIB

    @property
    def registry_url(self) -> str:
        """The registry's SQLAlchemy URL: ``database_url`` or its default."""
        return self.database_url or f"sqlite:///{self.file_storage_dir / 'registry.sqlite3'}"

    @property
    def registry_place(self) -> str:
        """The registry's URL without user, password and options, to be shown to the operator."""
        return without_password(self.registry_url).partition("?")[0]
