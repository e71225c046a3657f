"""Starts this service as a single service, or as one of several replicas."""

import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import FastAPI

from service.database.registries.records import ReplicaRecord
from service.database.registries.replica_registry import ReplicaRegistry
from service.database.registries.session_registry import SessionRegistry
from service.http.forwarding import Forwarder
from service.lifespan.stores import Stores
from service.replicas.lease import ReplicaLease
from service.replicas.leased_replica import LeasedReplica
from service.replicas.single_service import SingleService
from service.settings import Settings
from sessions.containers.engine import Engine


@dataclass(frozen=True)
class Replication:
    """The role of this service among the services that share its registry."""

    replicas: SingleService | LeasedReplica
    engine_id: str | None
    """Id of the engine that runs the containers; None if no other service can reach them."""


async def open_replication(
    app: FastAPI,
    settings: Settings,
    stores: Stores,
    session_registry: SessionRegistry,
    engine: Engine,
    stack: AsyncExitStack,
) -> Replication:
    """Join the other replicas if `REPLICA_URL` is set.

    Raises:
        InstanceInUse: another replica has this instance id.
    """
    url = settings.replicas.replica_url
    if url is None:
        return Replication(SingleService(session_registry, stores.instance_id), engine_id=None)
    engine_id = await engine.identity()
    lease_sec = settings.replicas.replica_lease_sec
    registry = ReplicaRegistry(stores.database)
    replica = ReplicaRecord(uuid.uuid4().hex, stores.instance_id, engine_id, url)
    lease = await stack.enter_async_context(ReplicaLease(registry, replica, lease_sec))
    forwarder = Forwarder(app.state.signer, registry.is_there, lease_sec)
    app.state.forwarder = await stack.enter_async_context(forwarder)
    leased = LeasedReplica(lease, registry, session_registry, settings.sessions.session_lease_sec)
    return Replication(leased, engine_id)
