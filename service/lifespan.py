"""The only wiring: what is opened at start, in order, and closed in reverse."""

import asyncio
import logging
import signal
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI

from service.database.container_registry import ContainerRegistry
from service.database.database import Database
from service.database.errors import RegistryInUse, RegistryMissing
from service.database.execution_registry import ExecutionRegistry
from service.database.file_registry import FileRegistry
from service.database.installation import registry_id as read_registry_id
from service.database.records import ReplicaRecord
from service.database.replica_registry import ReplicaRegistry
from service.database.service_lock import hold_database
from service.database.session_registry import SessionRegistry
from service.errors import StartError
from service.files.errors import StorageInUse
from service.files.open import open_storage
from service.files.quota import StorageQuota
from service.files.storage_lock import lock
from service.files.store import FileStore
from service.gateway.gateway import Gateway
from service.http.forwarding import Forwarder
from service.mcp.endpoint import Mcp
from service.mcp.replica_routing import ReplicaRouting
from service.operations.engine import open_engine
from service.operations.housekeeping import keep_house
from service.operations.pool_settings import pool_settings
from service.operations.readiness import KernelReadiness
from service.operations.self_test import SelfTest
from service.replicas.leases import Replicas
from service.settings import Settings
from service.telemetry.execution_log import ExecutionLog
from service.telemetry.logs import loop_failed
from service.telemetry.metrics import Metrics
from service.telemetry.traces import Traces
from sessions.containers.pool.pool import Pool
from sessions.executions.execution import Stores
from sessions.executions.one_shot import OneShotExecutor
from sessions.manager import SessionManager

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open files, registry, engine and pool for as long as the application serves."""
    settings: Settings = app.state.settings
    async with AsyncExitStack() as stack:
        database = Database(settings.storage.registry_url)
        stack.push_async_callback(database.close)
        storage = open_storage(settings.storage)
        stack.push_async_callback(storage.close)
        await storage.prepare()
        quota = StorageQuota(settings.keys.limits.storage_bytes)
        is_replica = settings.replicas.replica_url is not None
        files = FileStore(
            storage,
            FileRegistry(database),
            settings.storage.max_file_bytes,
            settings.storage.file_ttl_sec,
            quota,
            is_shared=is_replica,
        )
        if settings.storage.file_storage_url is None:
            folder = settings.storage.file_storage_dir
            await stack.enter_async_context(lock(folder / "lock", StorageInUse(folder)))
        if (file := database.file) is not None:
            in_use = RegistryInUse(file)
            await stack.enter_async_context(lock(file.with_name(f"{file.name}.lock"), in_use))
        else:
            # Replicas hold it together, and any other service alone.
            in_server = RegistryInUse(settings.storage.registry_place)
            held = hold_database(database, in_server, shared=is_replica, on_lost=partial(_stop, in_server))
            await stack.enter_async_context(held)
        if await storage.any() and not await database.exists():
            # With a new one they would all be swept away as leftovers.
            raise RegistryMissing(storage.place)
        await database.migrate()
        registry_id = await read_registry_id(database)
        await storage.claim(registry_id)
        await files.count_stored()
        # The name that is kept is one for all of them.
        instance_id = settings.containers.instance_id or (uuid.uuid4().hex if is_replica else registry_id)
        asyncio.get_running_loop().set_exception_handler(loop_failed)
        metrics: Metrics = app.state.metrics
        traces: Traces = app.state.traces
        stack.push_async_callback(traces.close)
        executions = ExecutionLog(
            ExecutionRegistry(database), metrics, traces, keeps_code=settings.execution.keep_code
        )
        shared = ReplicaRegistry(database) if is_replica else None
        await stack.enter_async_context(_running(keep_house(files, database, shared)))

        engine = await open_engine(settings, registry_id)
        stack.push_async_callback(engine.close)
        session_registry = SessionRegistry(database)
        replicas, engine_id = None, None
        if shared is None:
            kept = [record.container_id for record in await session_registry.live_sessions(instance_id)]
        else:
            engine_id = await engine.identity()
            replica = ReplicaRecord(
                uuid.uuid4().hex, instance_id, engine_id, settings.replicas.replica_url or ""
            )
            replicas = Replicas(shared, replica, settings.replicas.replica_lease_sec)
            await stack.enter_async_context(replicas)
            forwarder = Forwarder(app.state.signer, shared.is_there, settings.replicas.replica_lease_sec)
            app.state.forwarder = await stack.enter_async_context(forwarder)
            kept = await shared.kept_containers()
        containers = ContainerRegistry(database, instance_id, engine_id)
        self_test = SelfTest(engine, app.state.socket)
        pool = Pool(
            engine,
            pool_settings(settings, instance_id),
            containers,
            kept,
            self_test,
            metrics,
        )
        await stack.enter_async_context(pool)

        app.state.files = files
        app.state.kernels = KernelReadiness(engine, pool, instance_id, self_test)
        app.state.executor = executor = OneShotExecutor(Stores(settings, files, executions), pool)
        app.state.executions = executions
        stack.push_async_callback(executions.close)
        sessions = SessionManager(executor, pool, containers, session_registry, instance_id, replicas)
        app.state.sessions = await stack.enter_async_context(sessions)
        mcp = await stack.enter_async_context(Mcp(sessions, executor))
        app.state.mcp = mcp if replicas is None else ReplicaRouting(mcp, replicas)
        app.state.gateway = gateway = Gateway(executor, sessions, app.state.request_rate)
        stack.callback(gateway.close)
        yield


def _stop(why: StartError) -> None:
    """Stop the service in order: another works where this one did."""
    log.critical("%s", why)
    signal.raise_signal(signal.SIGTERM)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` in the background until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
