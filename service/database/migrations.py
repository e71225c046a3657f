"""Brings the registry's schema up to date, whoever else starts at the same moment.

A registry that is damaged or half made is refused, and left as it is.
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

# Another process may be creating the same tables. SQLite serialises the two by its write lock, PostgreSQL
# by a lock that is taken for it; elsewhere the loser fails on a table that exists, and finds the work done
# when it looks again.
_TRIES = 5
_PAUSE_SEC = 0.3

_LOCK = (
    # A large table takes as long as it takes, and so does another's migration.
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = 0",
    "SELECT pg_advisory_xact_lock(hashtext('code-interpreter migrations'))",
)

# alembic.context is a global of that library: two upgrades in one process take turns.
_ALEMBIC = threading.Lock()

log = logging.getLogger(__name__)


def upgrade(engine: Engine) -> None:
    """Apply every migration the database does not have yet.

    Raises:
        MigrationsMissing: the folder of migrations is not beside the code.
        RegistryTooNew: the database has a revision that the code does not know.
        MigrationFailed: the database cannot be reached or changed, or is not whole.
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
    """A registry's revision, the newest that this code knows, and whether it knows the former."""

    revision: str | None
    newest: str | None
    is_known: bool


def look(engine: Engine) -> Schema | None:
    """What a database's schema is; None where there is no database, or nothing in it. Changes nothing.

    Raises:
        MigrationsMissing: the folder of migrations is not beside the code.
        MigrationFailed: the database cannot be read, or is not whole.
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
        raise MigrationFailed("it has tables but no schema revision, as if it had been copied in part")
    command.upgrade(config, "head")
    after = MigrationContext.configure(connection).get_current_revision()
    if before != after:
        log.info("registry schema: %s -> %s", before or "new", after)
    _check_columns(connection)


def _check_pages(connection: Connection) -> None:
    """SQLite would find out only when it comes to the damaged page."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise MigrationFailed(f"it is damaged: {' '.join(str(found).split())}")


def _check_columns(connection: Connection) -> None:
    """Whatever the revision says, what the code reads and writes has to be there."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in Base.metadata.tables.values():
        if table.name not in present:
            raise MigrationFailed(f"its table {table.name} is missing")
        missing = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
        if missing:
            raise MigrationFailed(f"its table {table.name} has no column {', '.join(sorted(missing))}")


def config_for(connection: Connection) -> Config:
    """Alembic's configuration for one open connection, without a file."""
    config = Config()
    # A percent sign would be read as the start of a substitution.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
