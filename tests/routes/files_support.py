"""The file API as a service of its own: a real server, registry and folder, and no containers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI

from service.app import create_app
from service.database.database import Database
from service.database.registries.file_registry import FileRegistry
from service.files.open import open_storage
from service.files.quota import StorageQuota
from service.files.store import FileStore
from service.http.server.serving import bind, make_server
from service.operations.housekeeping import repeat
from service.routes import files
from service.settings import Settings


@dataclass(frozen=True)
class RunningApp:
    """A served application and how to reach it, from outside and from inside."""

    app: FastAPI
    settings: Settings
    http: httpx.Client
    loop: asyncio.AbstractEventLoop

    @property
    def store(self) -> FileStore:
        store: FileStore = self.app.state.files
        return store

    def on_disk(self, folder: str = "files") -> set[str]:
        """Names in a folder of the storage."""
        return {path.name for path in (self.settings.storage.file_storage_dir / folder).iterdir()}

    def sweep(self, now: float) -> Any:
        """Sweep as the service does, as if it were ``now``."""
        return asyncio.run_coroutine_threadsafe(self.store.sweep(now), self.loop).result(60)

    def upload(self, content: bytes, filename: str = "data.bin") -> dict[str, Any]:
        """Store a file that must be accepted."""
        response = self.http.post("/v1/files", files={"file": (filename, content)})
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body


@contextmanager
def serve_app(settings: Settings, *routers: APIRouter, sweep_sec: float = 3600) -> Iterator[RunningApp]:
    """Serve the file API, and what else is given, on a free port until the block ends."""
    loops: list[asyncio.AbstractEventLoop] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with file_store(settings) as store:
            app.state.files = store
            loops.append(asyncio.get_running_loop())
            sweeping = asyncio.create_task(
                repeat(lambda: store.sweep(time.time()), "sweeping the files", sweep_sec)
            )
            yield
            sweeping.cancel()
            await asyncio.wait([sweeping])

    app = create_app(settings, lifespan, (files.router, *routers))
    server = make_server(app, "127.0.0.1")
    with bind("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=30) as client:
                yield RunningApp(app, settings, client, loops[0])
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


@asynccontextmanager
async def file_store(settings: Settings) -> AsyncIterator[FileStore]:
    """The file store of these settings with its registry, migrated and open."""
    database = Database(settings.storage.registry_url)
    quota = StorageQuota(settings.keys.limits.storage_bytes)
    storage = open_storage(settings.storage)
    store = FileStore(
        storage, FileRegistry(database), settings.storage.max_file_bytes, settings.storage.file_ttl_sec, quota
    )
    await storage.prepare()
    await database.migrate()
    await store.count_stored()
    try:
        yield store
    finally:
        await storage.close()
        await database.close()
