"""Rows of containers, from which a restarted service finds its containers again."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from sqlalchemy import bindparam, insert, select, update

from kernel_image import contract
from service.database.database import Database, as_record
from service.database.tables import ContainerRow, table_of
from sessions import clock
from sessions.kernels.connection import Connection
from sessions.records import ContainerRecord

_ADD: Final = insert(table_of(ContainerRow))
_REMOVED: Final = (
    update(table_of(ContainerRow))
    .where(ContainerRow.container_id == bindparam("id"), ContainerRow.removed_at.is_(None))
    .values(removed_at=bindparam("at"), state="removed")
)


class ContainerRegistry:
    """The containers of one instance in the registry; also the pool's `ContainerLog`.

    Each method is one transaction, with the errors of ``Database.run``.
    """

    def __init__(self, database: Database, instance_id: str, engine_id: str | None = None) -> None:
        """Write rows for this instance.

        Args:
            engine_id: identifies the engine to other replicas; None without replicas.
        """
        self._instance_id = instance_id
        self._engine_id = engine_id
        self._run = database.run
        self._write = database.write

    async def launched(self, connection: Connection) -> None:
        """Add the row of a new container."""
        container = connection.container
        record = ContainerRecord(
            container_id=container.container_id,
            name=container.name,
            instance_id=self._instance_id,
            state="running",
            created_at=clock.now(),
            address=container.host,
            supervisor_port=container.ports[contract.SUPERVISOR_PORT],
            shell_port=container.ports[contract.SHELL_PORT],
            iopub_port=container.ports[contract.IOPUB_PORT],
            token=connection.token,
            kernel_key=connection.kernel_key,
            engine_id=self._engine_id,
        )
        await self.add(record)

    async def removed(self, container_id: str) -> None:
        """Mark a container as removed now; do nothing if it is marked already or unknown."""
        await self.mark_removed(container_id, clock.now())

    async def rekeyed(self, connection: Connection) -> None:
        """Write the key of the new kernel in a container."""
        await self.update_container_key(connection.container.container_id, connection.kernel_key)

    async def only(self, container_ids: Collection[str]) -> None:
        """Mark all containers of the instance as removed, except ``container_ids``."""
        for record in await self.live():
            if record.container_id not in container_ids:
                await self.removed(record.container_id)

    async def get_container(self, container_id: str) -> ContainerRecord | None:
        """Return the container of this id, also a removed one; None if there never was one."""
        row = await self._run(lambda session: session.get(ContainerRow, container_id))
        return None if row is None else as_record(ContainerRecord, row)

    async def update_container_key(self, container_id: str, kernel_key: str) -> None:
        """Write the key that the kernel in a container signs its messages with."""
        change = (
            update(ContainerRow)
            .where(ContainerRow.container_id == container_id)
            .values(kernel_key=kernel_key)
        )
        await self._run(lambda session: session.execute(change))

    async def add(self, container: ContainerRecord) -> None:
        """Add the row of a container."""
        await self._write((_ADD, asdict(container)))

    async def mark_removed(self, container_id: str, at: float) -> None:
        """Mark a container as removed at a time; do nothing if it is marked already or unknown."""
        await self._write((_REMOVED, {"id": container_id, "at": at}))

    async def live(self) -> list[ContainerRecord]:
        """Return the containers of the instance that are not marked as removed, oldest first."""
        query = (
            select(ContainerRow)
            .where(ContainerRow.instance_id == self._instance_id, ContainerRow.removed_at.is_(None))
            .order_by(ContainerRow.created_at, ContainerRow.container_id)
        )
        rows = await self._run(lambda session: session.scalars(query).all())
        return [as_record(ContainerRecord, row) for row in rows]
