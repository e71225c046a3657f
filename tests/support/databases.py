"""The databases that a registry can be in, and what a test does to them by hand."""

from typing import Any

from sqlalchemy import text

from service.database.connection import make_engine

KINDS = ("sqlite", "postgresql")


def execute(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Do one statement in a transaction of its own; the rows it gives."""
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def insert(url: str, table: str, **row: object) -> None:
    """Add a row."""
    places = ", ".join(f":{name}" for name in row)
    execute(url, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", **row)
