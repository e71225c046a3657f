"""How SQLAlchemy connects to SQLite and to PostgreSQL."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from service.database.errors import MigrationFailed

POSTGRESQL: Final = "postgresql"
CONNECTIONS: Final = 4
"""Connections to PostgreSQL: one for each thread of the registry."""
_DRIVER: Final = "postgresql+psycopg"
_BUSY_TIMEOUT_MS: Final = 5000
_PATIENCE_SEC: Final = 10
"""Seconds after which a PostgreSQL server that does not answer counts as gone."""
_POSTGRESQL_OPTIONS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": _PATIENCE_SEC,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * _PATIENCE_SEC,
    "options": f"-c statement_timeout={1000 * _PATIENCE_SEC} -c lock_timeout={1000 * _PATIENCE_SEC}",
    "application_name": "code-interpreter",
}


class JsonText(str):
    """Text that is JSON already. A JSON column stores it as it is."""

    __slots__ = ()


def to_json(value: object) -> JsonText:
    """Return a value as JSON in UTF-8. Lone surrogates, which UTF-8 cannot express, are escapes."""
    if isinstance(value, JsonText):
        return value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # An escape of Python for a surrogate is the same in JSON.
    return JsonText(text.encode("utf-8", "backslashreplace").decode())


def make_engine(url: str) -> Engine:
    """Return a SQLAlchemy engine, which connects when it is first used.

    Raises:
        MigrationFailed: the URL is invalid, or the driver is not installed.
    """
    try:
        parsed = _parsed(url)
        if parsed.get_backend_name() in (POSTGRESQL, "postgres"):
            engine = _postgresql(parsed)
        elif parsed.get_backend_name() == "sqlite":
            # Errors are logged, and the parameters hold what callers have sent.
            engine = create_engine(parsed, hide_parameters=True, json_serializer=to_json)
        else:
            raise ValueError(f"{parsed.get_backend_name()} is neither sqlite nor postgresql")
    except (ArgumentError, ImportError, ValueError) as error:
        raise MigrationFailed(str(error)) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def make_single_connection_engine(url: URL) -> Engine:
    """Return an engine for PostgreSQL that opens a connection for each use, and begins no transaction."""
    return create_engine(
        url,
        hide_parameters=True,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=_POSTGRESQL_OPTIONS | dict(url.query),
    )


def make_reading_engine(url: str) -> Engine:
    """Return an engine that takes no write lock on a SQLite file, and does not create the file."""
    engine = make_engine(url)
    path = file_of(engine)
    if path is None:
        return engine
    if not path.exists():
        return create_engine("sqlite://")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_MS / 1000
        )

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def describe_server(url: str) -> str | None:
    """Return the version and the response time of a database server; None for SQLite.

    Raises:
        MigrationFailed: the server cannot be reached.
    """
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        return None
    try:
        with engine.connect() as connection:
            began = time.monotonic()
            connection.execute(select(1)).scalar()
            took_ms = 1000 * (time.monotonic() - began)
            version = ".".join(map(str, engine.dialect.server_version_info or ()))
    except DBAPIError as error:
        raise MigrationFailed(reason_of(error)) from error
    finally:
        engine.dispose()
    return f"{engine.dialect.name} {version}, which answers in {took_ms:.1f} ms"


def reason_of(error: SQLAlchemyError) -> str:
    """Return the message of the database or of its driver, in one line."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())


def file_of(engine: Engine) -> Path | None:
    """Return the path of a SQLite database; None for other databases, and for one in memory."""
    url = engine.url
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # SQLAlchemy's message may show a part of the password that it took for the port.
        raise ValueError(
            "its URL makes no sense; are all of /:@?# in its password quoted, as %2F is?"
        ) from None


def _postgresql(url: URL) -> Engine:
    if "+" not in url.drivername:
        url = url.set(drivername=_DRIVER)
    if url.drivername != _DRIVER:
        raise ValueError(f"the driver of {_DRIVER}:// is the only one for PostgreSQL here")
    try:
        return create_engine(
            url,
            hide_parameters=True,
            json_serializer=to_json,
            connect_args=_POSTGRESQL_OPTIONS | dict(url.query),
            pool_size=CONNECTIONS,
            max_overflow=0,
            # A restart of the server closes the connections in the pool.
            pool_pre_ping=True,
        )
    except ImportError:
        raise ImportError("psycopg is not installed: pip install 'code-interpreter[postgresql]'") from None


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # The driver begins transactions too late for DDL and reads, so `_begin_sqlite` does it instead.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Any) -> None:
    # Take the write lock at once. A transaction that reads first and writes later fails instead of
    # waiting for another process.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
