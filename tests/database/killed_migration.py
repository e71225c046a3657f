"""Migrations that are killed, by SIGKILL, in the middle of the registry that the settings name.

`python -m tests.database.killed_migration NUMBER` starts the service and kills it after so many statements.
`python -m tests.database.killed_migration` migrates again and again, killed after one statement, two,
and so on, until there are no more. Each time it prints the exit status and waits for a line.
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
    """Kill this process as soon as it has made so many changes to a database."""
    left = number

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal left
        if statement.lstrip().upper().startswith(_CHANGES):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", count)


async def migrate() -> None:
    """Bring the registry up to date, and no more."""
    database = Database(load_settings().storage.registry_url)
    await database.migrate()
    await database.close()


def migrate_again_and_again() -> None:
    """A process for each migration, forked so that nothing is imported anew."""
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
        migrate_again_and_again()
