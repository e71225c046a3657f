"""The tables of the registry. Each change of them needs a migration in alembic/versions."""

from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sessions.records import ONE_TENANT


class Free(TypeDecorator[str]):
    """Text that callers have sent. PostgreSQL cannot store NUL in text, so U+FFFD replaces it there."""

    impl = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None] | None:
        if dialect.name != "postgresql":
            return None
        return lambda value: value and value.replace("\0", "\ufffd")


class Base(DeclarativeBase):
    """The base of the tables. It names every constraint, so that migrations can change it on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[type, Any]] = {float: Double}


def _owner() -> Mapped[str]:
    """Return the column of a row's owner."""
    return mapped_column(String(64), server_default=ONE_TENANT)


def table_of(row: type[Base]) -> Table:
    """Return the table of a row class, for statements that use its columns only."""
    return Base.metadata.tables[row.__tablename__]


class FileRow(Base):
    """A stored file; see ``records.StoredFile``."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "owner", "created_at", "file_id"), Index(None, "expires_at"))

    file_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    filename: Mapped[str] = mapped_column(Free)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    origin: Mapped[str] = mapped_column(String(16))
    execution_id: Mapped[str | None] = mapped_column(String(64))
    owner: Mapped[str] = _owner()
    ends_sha256: Mapped[str | None] = mapped_column(String(64))


class ExecutionRow(Base):
    """An execution that has ended; see ``records.ExecutionRecord``."""

    __tablename__ = "executions"
    __table_args__ = (Index(None, "owner", "created_at", "execution_id"), Index(None, "finished_at"))

    execution_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[float]
    finished_at: Mapped[float]
    outcome: Mapped[str] = mapped_column(String(32))
    exit_code: Mapped[int | None]
    timed_out: Mapped[bool]
    duration_ms: Mapped[int]
    stdout_bytes: Mapped[int] = mapped_column(BigInteger)
    stderr_bytes: Mapped[int] = mapped_column(BigInteger)
    files_in: Mapped[int]
    files_out: Mapped[int]
    owner: Mapped[str] = _owner()
    kind: Mapped[str] = mapped_column(String(16), server_default="execute")
    session_id: Mapped[str | None] = mapped_column(String(36))
    queue_ms: Mapped[float | None]
    start_ms: Mapped[float | None]
    stage_ms: Mapped[float | None]
    run_ms: Mapped[float | None]
    gather_ms: Mapped[float | None]
    store_ms: Mapped[float | None]
    cpu_ms: Mapped[float | None]
    code_bytes: Mapped[int | None] = mapped_column(BigInteger)
    display_bytes: Mapped[int | None] = mapped_column(BigInteger)
    files_in_bytes: Mapped[int | None] = mapped_column(BigInteger)
    files_out_bytes: Mapped[int | None] = mapped_column(BigInteger)
    code: Mapped[str | None] = mapped_column(Free)


class ContainerRow(Base):
    """A container, also after it is gone; see ``records.ContainerRecord``."""

    __tablename__ = "containers"
    __table_args__ = (Index(None, "instance_id", "removed_at"), Index(None, "removed_at"))

    container_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    instance_id: Mapped[str] = mapped_column(String(63))
    state: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[float]
    removed_at: Mapped[float | None]
    address: Mapped[str] = mapped_column(String(255))
    supervisor_port: Mapped[int]
    shell_port: Mapped[int]
    iopub_port: Mapped[int]
    token: Mapped[str] = mapped_column(String(128))
    kernel_key: Mapped[str] = mapped_column(String(128))
    engine_id: Mapped[str | None] = mapped_column(String(128))


class SessionRow(Base):
    """A session, also after it has ended; see ``records.SessionRecord``."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "instance_id", "ended_at"),
        Index(None, "ended_at", "holder"),
        Index(None, "ended_at", "expires_at"),
        Index(None, "owner", "ended_at"),
    )

    session_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    container_id: Mapped[str] = mapped_column(String(64))
    instance_id: Mapped[str] = mapped_column(String(63))
    created_at: Mapped[float]
    expires_at: Mapped[float]
    last_used_at: Mapped[float]
    ended_at: Mapped[float | None]
    end_reason: Mapped[str | None] = mapped_column(String(16))
    owner: Mapped[str] = _owner()
    holder: Mapped[str | None] = mapped_column(String(32))
    free_since: Mapped[float | None]


class CellRow(Base):
    """A cell of a session; see ``records.CellRecord``."""

    __tablename__ = "cells"
    __table_args__ = (Index(None, "session_id", "number"),)

    cell_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id", ondelete="CASCADE"))
    number: Mapped[int]
    code: Mapped[str] = mapped_column(Free)
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[float]
    timeout_ms: Mapped[int]
    finished_at: Mapped[float | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    code_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    result_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    removed: Mapped[str | None] = mapped_column(String(16))


class ReplicaRow(Base):
    """A service that shares the registry with others; see ``records.ReplicaRecord``."""

    __tablename__ = "replicas"

    replica_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(63))
    engine_id: Mapped[str] = mapped_column(String(128))
    url: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[float]


class InstanceRow(Base):
    """A setting of this installation that the service itself has made, such as its instance id."""

    __tablename__ = "instance"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
