"""A program that kills migrations of the registry, which the settings name, with SIGKILL.

`python -m tests.database.killed_migration NUMBER` starts the service and kills it after NUMBER statements.
`python -m tests.database.killed_migration` migrates repeatedly. It kills the first migration after one
statement, the second after two, and so on, until a migration succeeds. After each, it prints the exit
status and waits for a line.
"""

import asyncio
import os
import signal
import sys
from argparse import Namespace
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from service import server
from service.database.database import Database
from service.settings import load_settings

_CHANGES = ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE")


def kill_after(number: int) -> None:
    """Kill this process after the given number of statements that change a database."""
    remaining = number

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal remaining
        if statement.lstrip().upper().startswith(_CHANGES):
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", count)


async def migrate() -> None:
    """Migrate the registry without starting the service."""
    database = Database(load_settings().storage.registry_url)
    await database.migrate()
    await database.close()


def kill_each_migration() -> None:
    """Fork a process for each migration, so that the imports happen only once."""
    number = status = 0
    while number == 0 or status:
        number += 1
        child = os.fork()
        if child == 0:
            kill_after(number)
            asyncio.run(migrate())
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()
        sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[1:]:
        kill_after(int(sys.argv[1]))
        sys.exit(server.main(Namespace()))
    else:
        kill_each_migration()
