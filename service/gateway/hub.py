"""One session's channels, for the clients whose sockets are open to it, or were a moment ago.

What the kernel publishes goes to all of them as it is. What code prints does not come that way but
through the supervisor, and is told as `stream` messages of the request that it belongs to. Nothing the
kernel says is believed: it is bounded by number and size, and what it says of a request's end counts
only for the order of things.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from service.auth.limits import RequestRate
from service.gateway import shapes, wire
from service.gateway.client import Client
from service.gateway.errors import TooManyConnections
from service.gateway.order import MARKED, Order
from service.gateway.running import Running
from service.gateway.wire import Packed, pack
from service.routes.schemas.sessions import CreateSessionRequest
from sessions import clock
from sessions.errors import CallFailed, SessionsError, log_text
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.client import Pace, Relay, Relayed
from sessions.manager import SessionManager
from sessions.models import JsonObject, KernelMessage, Stream
from sessions.session import CellLimits, Session

log = logging.getLogger(__name__)

TTL_SEC: Final[int] = CreateSessionRequest().ttl_seconds
"""How long a session goes on after its last socket has closed."""
_CLIENTS: Final = 8
"""With open sockets, at once."""
_AWAY: Final = 4
"""Clients that are remembered without a socket."""
_PENDING: Final = 1000
"""Questions that the kernel has not answered."""
_PROBES: Final = 5
_PROBE_SEC: Final = 0.2
_RETRY_SEC: Final = 0.1
_DEAD_SEC: Final = 1.0
"""How long an idle kernel may refuse connections before it is looked after."""
_READY_SEC: Final = 3.0
_LOOK_SEC: Final = 5.0


class Hub:
    """Use `attach` and `detach`; it runs until `close`."""

    def __init__(
        self,
        session: Session,
        sessions: SessionManager,
        limits: CellLimits,
        rate: RequestRate,
        on_empty: Callable[[], None],
    ) -> None:
        """`on_empty` is called when the last client is forgotten."""
        self.session = session
        self.rate = rate
        self._on_empty = on_empty
        self.limits = limits
        self._sessions = sessions
        self._clients: dict[str, Client] = {}
        self._running: dict[str, Running] = {}
        self._pending: dict[str, tuple[Client, str, KernelMessage]] = {}
        self._relay: Relay | None = None
        self._ready = asyncio.Event()
        self._is_restarting = False
        """Whether a client has the kernel replaced just now."""
        self._news = ""
        """What clients are yet to be told of a new kernel, as a state; empty: nothing."""
        self._id = uuid.uuid4().hex
        """The kernel's session id, as clients know it: one for each kernel."""
        self._pace = Pace()
        self.order = Order()
        session.follow(self._new_kernel)
        work = (self._follow_kernel(), self._look_after(), self._wait_for_end())
        self._tasks = [asyncio.create_task(task) for task in work]

    # --- clients ----------------------------------------------------------------------------------

    @property
    def sockets(self) -> int:
        """How many are open."""
        return sum(client.is_here for client in self._clients.values())

    def attach(self, key: str) -> Client:
        """The client of that name, which may have been here before. Raises `TooManyConnections`."""
        client = self._clients.get(key)
        if (client is None or not client.is_here) and self.sockets >= _CLIENTS:
            raise TooManyConnections(_CLIENTS)
        if client is None:
            client = self._clients[key] = Client(self)
        client.come()
        for name, away in self._away()[_AWAY:]:
            self._forget(name, away)
        if self.session.runs_in_kernel:
            client.send("iopub", self.message("status", {"execution_state": "busy"}, {}))
        return client

    def detach(self, client: Client) -> None:
        """Its socket is closed: what is for it is kept for a while."""
        client.leave()

    def _away(self) -> list[tuple[str, Client]]:
        """Those without a socket, the latest first."""
        away = [(name, client) for name, client in self._clients.items() if not client.is_here]
        return sorted(away, key=lambda entry: -entry[1].left_at)

    def _forget(self, name: str, client: Client) -> None:
        del self._clients[name]
        client.close()
        self._pending = {i: asked for i, asked in self._pending.items() if asked[0] is not client}
        if not self._clients:
            self._on_empty()

    # --- what clients are told --------------------------------------------------------------------

    def message(self, kind: str, content: JsonObject, parent: JsonObject) -> KernelMessage:
        """A message of our own."""
        return KernelMessage(wire.header(kind, self._id, uuid.uuid4().hex), parent, {}, content)

    def text_message(self, stream: Stream, text: str, parent: JsonObject) -> Packed:
        """The message of what code has printed."""
        return pack("iopub", self.message("stream", {"name": stream, "text": text}, parent))

    def publish(self, kind: str, content: JsonObject, parent: JsonObject) -> None:
        """Tell all clients."""
        self._broadcast(self.message(kind, content, parent))

    def publish_text(self, stream: Stream, text: str, parent: JsonObject) -> None:
        """Tell all clients what code has printed."""
        for client in self._clients.values():
            client.outbox.put_text(stream, text, parent)

    def _broadcast(self, message: KernelMessage) -> None:
        packed = pack("iopub", message)
        for client in self._clients.values():
            client.outbox.put(packed)

    @contextmanager
    def running(self, request: KernelMessage) -> Iterator[Running]:
        """A request that runs code, for as long as the block: its idle is told when the block ends."""
        running = Running(request.header, self.limits.budget.display_bytes)
        self._running[request.message_id] = running
        self.order.begin()
        try:
            yield running
        finally:
            self._running.pop(request.message_id, None)
            self.publish("status", {"execution_state": "idle"}, request.header)
            if self._news and not self._running:
                self._tell_of_new_kernel()

    # --- the kernel -------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Return when the kernel's messages are followed, or when it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SEC):
                await self._ready.wait()

    def ask(self, client: Client, channel: str, question: KernelMessage) -> None:
        """Ask the kernel something that it answers at once, when it is free."""
        while len(self._pending) >= _PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[question.message_id] = client, channel, question
        if self._relay is not None and self._ready.is_set():
            self._relay.tell(question)

    async def restart(self) -> None:
        """Replace it for a client, which knows then what has become of its variables."""
        self._is_restarting = True
        try:
            await self.session.restart()
        finally:
            self._is_restarting = False

    async def _follow_kernel(self) -> None:
        """Follow it, and the one that takes its place."""
        refused_since = time.monotonic()
        while True:
            relay = Relay(self.session.sandbox.connection)
            try:
                await relay.open()
                refused_since = time.monotonic()
                await self._follow(relay)
            except (ChannelBroken, TimeoutError):
                pass
            finally:
                self._ready.clear()
                relay.close()
                for running in self._running.values():
                    running.hears_no_more()
            if time.monotonic() - refused_since > _DEAD_SEC and not self.session.busy:
                await self._revive()
                refused_since = time.monotonic()
            await asyncio.sleep(_RETRY_SEC)
            await self.session.kernel.is_settled.wait()

    async def _revive(self) -> None:
        try:
            await self.session.revive()
        except (CallFailed, SessionsError) as error:
            log.warning("session %s has no kernel: %s", self.session.session_id, log_text(error))

    async def _follow(self, relay: Relay) -> None:
        self._relay = relay
        # Hanging up cancels who waits for a message, so these are tasks.
        readers = [asyncio.create_task(work) for work in (self._read_replies(relay), self._read_iopub(relay))]
        try:
            await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for reader in readers:
                reader.cancel()
            for error in await asyncio.gather(*readers, return_exceptions=True):
                if not isinstance(error, ChannelBroken | asyncio.CancelledError):
                    log.error("session %s could not be followed", self.session.session_id, exc_info=error)

    async def _probe(self, relay: Relay) -> None:
        """Ask until something is heard: what is published before a subscription has arrived is lost."""
        for _ in range(_PROBES):
            probe = self.message("kernel_info_request", {}, {})
            relay.tell(probe)
            try:
                async with asyncio.timeout(_PROBE_SEC):
                    while (heard := (await relay.published()).message) is not None:
                        if heard.parent_id == probe.message_id:
                            return
            except TimeoutError:
                continue

    async def _read_replies(self, relay: Relay) -> None:
        while True:
            reply = (await self._paced(await relay.reply())).message
            if reply is None or reply.parent_id not in self._pending:
                continue
            client, channel, question = self._pending[reply.parent_id]
            if reply.kind == question.kind.removesuffix("request") + "reply":
                del self._pending[reply.parent_id]
                header = wire.plain_header(reply.header)
                if header is not None:
                    client.send(channel, self._of_one_session(replace(reply, header=header)))

    async def _read_iopub(self, relay: Relay) -> None:
        if not self.session.busy:
            await self._probe(relay)
        self._ready.set()
        for _, _, question in self._pending.values():
            relay.tell(question)
        while True:
            relayed = await self._paced(await relay.published())
            message = relayed.message and shapes.published(relayed.message)
            if message is not None:
                await self._take(self._of_one_session(message), relayed.size_bytes)

    def _of_one_session(self, message: KernelMessage) -> KernelMessage:
        """JupyterLab takes it for another kernel, and forgets the messages of the last, if that changes."""
        return replace(message, header=message.header | {"session": self._id})

    async def _take(self, message: KernelMessage, size_bytes: int) -> None:
        running = self._running.get(message.parent_id or "")
        # A thread of an earlier cell leaves its marks in the text of this one.
        if message.kind in MARKED and (running or any(one.is_busy for one in self._running.values())):
            await self.order.text_before(message.message_id)
        if running is None or running.lets_pass(message, size_bytes):
            self._broadcast(message)
        elif running.says_left_out():
            note = {"text/plain": f"[output left out: over the limit of {running.limit_bytes} bytes]"}
            self.publish("display_data", {"data": note, "metadata": {}}, running.header)
        self.order.told(message.message_id)

    async def _paced(self, relayed: Relayed) -> Relayed:
        """Take no more of the kernel's messages than it takes to serve others as well."""
        await self._pace.take(relayed.size_bytes)
        return relayed

    def _new_kernel(self, asked: bool) -> None:
        """The session has another kernel."""
        self._id = uuid.uuid4().hex
        if self._relay is not None:
            self._relay.close()
        if asked:
            for client in self._clients.values():
                client.abort_waiting()
        # At `restarting` JupyterLab says that the kernel seems to have died, forgets its requests and
        # connects anew: not before they have their answers, and not if its user has asked for that.
        self._news = "starting" if self._is_restarting else "restarting"
        if not self._running:
            self._tell_of_new_kernel()

    def _tell_of_new_kernel(self) -> None:
        for state in (self._news, "idle"):
            self.publish("status", {"execution_state": state}, {})
        self._news = ""

    # --- its life ---------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """The session lives while a socket is open; who has been away for long is forgotten."""
        while True:
            if self.sockets:
                await self.prolong()
            gone = [entry for entry in self._away() if time.monotonic() - entry[1].left_at > TTL_SEC]
            for name, client in gone:
                self._forget(name, client)
            await asyncio.sleep(_LOOK_SEC)

    async def prolong(self) -> None:
        """Let the session live for its usual time from now, more or less, if it would not anyway."""
        self.session.used()
        if self.session.record.expires_at < clock.now() + TTL_SEC * 0.95:
            try:
                await self._sessions.extend(self.session, TTL_SEC)
            except Exception:
                log.exception("session %s could not be extended", self.session.session_id)

    async def _wait_for_end(self) -> None:
        await self.session.ended.wait()
        self.publish("status", {"execution_state": "dead"}, {})
        for name, client in list(self._clients.items()):
            self._forget(name, client)
        self._on_empty()

    def close(self) -> None:
        """Let go of the kernel and of all clients."""
        self.session.unfollow()
        for task in self._tasks:
            task.cancel()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
