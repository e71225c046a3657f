"""Migrates the registry's schema to the newest revision. Several processes may start at the same time.

A damaged or incomplete registry is refused and not changed.
"""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from service.database.connection import reason_of
from service.database.errors import MigrationFailed, MigrationsMissing, RegistryTooNew
from service.database.tables import Base

FOLDER = Path(__file__).resolve().parents[2] / "alembic"

# Another process may create the same tables at the same time. SQLite serialises the two with its write lock,
# PostgreSQL with the advisory lock below. On other databases the slower process fails because a table exists.
# It tries again, and finds the schema up to date.
_TRIES = 5
_PAUSE_SEC = 0.3

_LOCK = (
    # Migrating a large table, or waiting for another process that does, may take long.
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = 0",
    "SELECT pg_advisory_xact_lock(hashtext('code-interpreter migrations'))",
)

# Alembic keeps its context in a global, so only one upgrade may run in a process at a time.
_ALEMBIC = threading.Lock()

log = logging.getLogger(__name__)


def upgrade(engine: Engine) -> None:
    """Apply every migration that the database does not have yet.

    Raises:
        MigrationsMissing: the folder of the migrations does not exist.
        RegistryTooNew: the database has a revision that the code does not know.
        MigrationFailed: the database cannot be reached or changed, or is damaged or incomplete.
    """
    if not (FOLDER / "env.py").is_file():
        raise MigrationsMissing(FOLDER)
    for tries_left in reversed(range(_TRIES)):
        try:
            with _ALEMBIC, engine.begin() as connection:
                _upgrade(connection)
            return
        except DBAPIError as error:
            if not tries_left:
                raise MigrationFailed(reason_of(error)) from error
            time.sleep(_PAUSE_SEC)
        except (SQLAlchemyError, CommandError) as error:
            raise MigrationFailed(str(error)) from error


@dataclass(frozen=True)
class Schema:
    """The revision of a registry, the newest that this code knows, and whether the code knows the first."""

    revision: str | None
    newest: str | None
    is_known: bool


def look(engine: Engine) -> Schema | None:
    """Return the schema of a database, or None if it does not exist or is empty. Change nothing.

    Raises:
        MigrationsMissing: the folder of the migrations does not exist.
        MigrationFailed: the database cannot be read, or is damaged.
    """
    if not (FOLDER / "env.py").is_file():
        raise MigrationsMissing(FOLDER)
    try:
        with engine.connect() as connection:
            if not inspect(connection).get_table_names():
                return None
            _check_pages(connection)
            scripts = ScriptDirectory.from_config(config_for(connection))
            revision = MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise MigrationFailed(reason_of(error)) from error
    except (SQLAlchemyError, CommandError) as error:
        raise MigrationFailed(str(error)) from error
    finally:
        engine.dispose()
    known = {script.revision for script in scripts.walk_revisions()}
    return Schema(revision, scripts.get_current_head(), revision in known)


def _upgrade(connection: Connection) -> None:
    _check_pages(connection)
    if connection.dialect.name == "postgresql":
        for statement in _LOCK:
            connection.exec_driver_sql(statement)
    config = config_for(connection)
    before = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise RegistryTooNew(before)
    if before is None and not Base.metadata.tables.keys().isdisjoint(inspect(connection).get_table_names()):
        raise MigrationFailed("it has tables but no schema revision; it may be an incomplete copy")
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if before != after:
        log.info("registry schema: %s -> %s", before or "new", after)
    _check_columns(connection)


def _check_pages(connection: Connection) -> None:
    """Check SQLite files now. SQLite itself reports a damaged page only when it reads that page."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise MigrationFailed(f"it is damaged: {' '.join(str(found).split())}")


def _check_columns(connection: Connection) -> None:
    """Check that all tables and columns of the code exist, independent of the revision."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in Base.metadata.tables.values():
        if table.name not in present:
            raise MigrationFailed(f"its table {table.name} is missing")
        missing = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
        if missing:
            raise MigrationFailed(f"its table {table.name} has no column {', '.join(sorted(missing))}")


def config_for(connection: Connection) -> Config:
    """Return Alembic's configuration for one open connection. It needs no file."""
    config = Config()
    # A single percent sign would begin a substitution.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
