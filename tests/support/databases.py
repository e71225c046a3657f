"""The kinds of databases for a registry, and SQL that tests execute on them directly."""

from typing import Any

from sqlalchemy import text

from service.database.connection import make_engine

KINDS = ("sqlite", "postgresql")


def execute(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Execute a statement in its own transaction, and return its rows."""
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def insert(url: str, table: str, **row: object) -> None:
    """Insert a row."""
    parameters = ", ".join(f":{name}" for name in row)
    execute(url, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({parameters})", **row)
