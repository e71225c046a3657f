"""Rows of containers, from which a restarted service finds its containers again.

The secrets in a row are encrypted, and a removed container has none.
"""

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import bindparam, insert, select, update

from kernel_image import contract
from service.database.database import Database, as_record
from service.database.secret_box import SecretBox
from service.database.tables import ContainerRow, table_of
from sessions import clock
from sessions.kernels.connection import Connection
from sessions.records import ContainerRecord

_ADD: Final = insert(table_of(ContainerRow))
_REMOVED: Final = (
    update(table_of(ContainerRow))
    .where(ContainerRow.container_id == bindparam("id"), ContainerRow.removed_at.is_(None))
    .values(removed_at=bindparam("at"), state="removed", token="", kernel_key="")
)


Place = tuple[object, ...]
"""Where a secret may be decrypted: the values that identify its place in the registry."""


def place_of_token(row: ContainerRow | ContainerRecord) -> Place:
    """Return the place of a token, with the address that the service sends it to."""
    return (
        "token",
        row.container_id,
        row.address,
        row.supervisor_port,
        row.shell_port,
        row.iopub_port,
    )


def place_of_kernel_key(container_id: str) -> Place:
    """Return the place of the key that a kernel signs its messages with."""
    return ("kernel_key", container_id)


class ContainerRegistry:
    """The containers of one instance in the registry; also the pool's `ContainerLog`.

    Each method is one transaction, with the errors of ``Database.run``.
    """

    def __init__(
        self, database: Database, instance_id: str, box: SecretBox, engine_id: str | None = None
    ) -> None:
        """Write rows for this instance.

        Args:
            box: encrypts the secrets in the rows.
            engine_id: identifies the engine to other replicas; None without replicas.
        """
        self._instance_id = instance_id
        self._box = box
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
        for container_id in await self.live():
            if container_id not in container_ids:
                await self.removed(container_id)

    async def get_container(self, container_id: str) -> ContainerRecord | None:
        """Return a container that has not been removed; None if there is none of this id.

        Raises:
            SecretUnreadable: its secrets were encrypted with another key or for another row.
        """
        query = select(ContainerRow).where(
            ContainerRow.container_id == container_id, ContainerRow.removed_at.is_(None)
        )
        row = await self._run(lambda session: session.scalar(query))
        if row is None:
            return None
        record = as_record(ContainerRecord, row)
        return replace(
            record,
            token=self._box.open(record.token, *place_of_token(record)),
            kernel_key=self._box.open(record.kernel_key, *place_of_kernel_key(container_id)),
        )

    async def update_container_key(self, container_id: str, kernel_key: str) -> None:
        """Write the key that the kernel in a container signs its messages with."""
        change = (
            update(ContainerRow)
            .where(ContainerRow.container_id == container_id, ContainerRow.removed_at.is_(None))
            .values(kernel_key=self._box.seal(kernel_key, *place_of_kernel_key(container_id)))
        )
        await self._run(lambda session: session.execute(change))

    async def add(self, container: ContainerRecord) -> None:
        """Add the row of a container."""
        row = asdict(container)
        row["token"] = self._box.seal(container.token, *place_of_token(container))
        row["kernel_key"] = self._box.seal(container.kernel_key, *place_of_kernel_key(container.container_id))
        await self._write((_ADD, row))

    async def mark_removed(self, container_id: str, at: float) -> None:
        """Mark a container as removed at a time; do nothing if it is marked already or unknown."""
        await self._write((_REMOVED, {"id": container_id, "at": at}))

    async def live(self) -> list[str]:
        """Return the ids of the instance's containers that are not marked as removed, oldest first."""
        query = (
            select(ContainerRow.container_id)
            .where(ContainerRow.instance_id == self._instance_id, ContainerRow.removed_at.is_(None))
            .order_by(ContainerRow.created_at, ContainerRow.container_id)
        )
        return await self._run(lambda session: list(session.scalars(query)))
