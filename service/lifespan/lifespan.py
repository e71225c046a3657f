"""Opens the parts of the service in order: stores, engine, pool, sessions, MCP and the Jupyter gateway."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI

from service.auth.limits import ConcurrencyLimit
from service.database.registries.container_registry import ContainerRegistry
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.history import HistoryQuota
from service.database.registries.session_registry import SessionRegistry
from service.gateway.gateway import Gateway
from service.lifespan.limits import execution_limits, notebook_limits, session_limits, session_settings
from service.lifespan.replicas import open_replication
from service.lifespan.stores import open_stores
from service.mcp.endpoint import Mcp
from service.mcp.replica_routing import ReplicaRouting
from service.mcp.services import McpServices
from service.operations.engine import open_engine
from service.operations.housekeeping import keep_house
from service.operations.pool_settings import pool_settings
from service.operations.readiness import KernelReadiness
from service.operations.self_test import SelfTest
from service.replicas.leased_replica import LeasedReplica
from service.settings import Settings
from service.telemetry.execution_log import ExecutionLog
from service.telemetry.logs import loop_failed
from service.telemetry.metrics import Metrics
from service.telemetry.traces import Traces
from sessions.containers.pool.pool import Pool
from sessions.executions.one_shot import OneShotExecutor
from sessions.executions.staging import Staging
from sessions.manager.manager import SessionManager
from sessions.session.services import SessionServices


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open everything that the routes need, until the application stops serving."""
    settings: Settings = app.state.settings
    metrics: Metrics = app.state.metrics
    traces: Traces = app.state.traces
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, stack)
        asyncio.get_running_loop().set_exception_handler(loop_failed)
        stack.push_async_callback(traces.close)
        quota = HistoryQuota(settings.keys.history_bytes, is_shared=settings.replicas.is_replica)
        executions = ExecutionRegistry(stores.database, quota)
        recording = ExecutionLog(executions, metrics, traces, keeps_code=settings.execution.keep_code)
        engine = await open_engine(settings, stores.registry_id)
        stack.push_async_callback(engine.close)
        rows = SessionRegistry(stores.database, quota)
        replication = await open_replication(app, settings, stores, rows, engine, stack)
        replicas = replication.replicas
        tidying = keep_house(stores.files, stores.database, replicas.is_my_turn)
        await stack.enter_async_context(_running(tidying))
        containers = ContainerRegistry(stores.database, stores.instance_id, stores.box, replication.engine_id)
        self_test = SelfTest(engine, app.state.socket)
        pool = Pool(
            engine,
            pool_settings(settings, stores.instance_id),
            containers,
            await replicas.kept_containers(),
            self_test,
            metrics,
        )
        await stack.enter_async_context(pool)

        staging = Staging(stores.files)
        running = ConcurrencyLimit(settings.keys.limits.executions)
        app.state.files = stores.files
        app.state.kernels = KernelReadiness(engine, pool, stores.instance_id, self_test)
        app.state.executor = OneShotExecutor(
            pool, stores.files, staging, recording, running, execution_limits(settings)
        )
        app.state.executions = recording
        stack.push_async_callback(recording.close)
        services = SessionServices(
            rows=rows,
            containers=containers,
            files=stores.files,
            staging=staging,
            recording=recording,
            running=running,
            limits=session_limits(settings),
            settings=session_settings(settings),
        )
        sessions = SessionManager(pool, services, replicas, stores.instance_id)
        app.state.sessions = await stack.enter_async_context(sessions)

        mcp = await stack.enter_async_context(
            Mcp(McpServices(settings, sessions, stores.files, staging, metrics))
        )
        app.state.mcp = ReplicaRouting(mcp, replicas) if isinstance(replicas, LeasedReplica) else mcp
        app.state.gateway = gateway = Gateway(
            sessions, notebook_limits(settings), app.state.request_rate, settings.server.max_request_bytes
        )
        stack.callback(gateway.close)
        yield


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
