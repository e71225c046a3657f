"""The gateway's connection to the kernel of one session: its shell and iopub channels.

User code owns the key of its kernel, so nothing that the kernel sends is trusted. Messages are limited in
number and size. The kernel's statement that a request has ended affects only the order of messages.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from service.gateway import messages
from service.gateway.frames import encode, sanitized_header
from service.gateway.iopub import IOPub
from service.gateway.memory import Allowance
from service.gateway.running_requests import RunningRequests
from service.gateway.send_queue import SendQueue
from sessions.errors import CallFailed, SessionsError, log_text
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.pace import Pace
from sessions.kernels.relay import Relay, Relayed
from sessions.models import PackedMessage
from sessions.session.session import Session

log = logging.getLogger(__name__)

_MAX_PENDING: Final = 1000
"""Requests that the kernel has not answered; beyond that the oldest is forgotten."""
_PENDING_OVERHEAD_BYTES: Final = 2000
_PROBES: Final = 5
_PROBE_SEC: Final = 0.2
_RETRY_SEC: Final = 0.1
_DEAD_SEC: Final = 1.0
"""An idle kernel that refuses connections for so long is checked and replaced."""
_READY_SEC: Final = 3.0


@dataclass(frozen=True)
class _PendingRequest:
    """A request that was sent to the kernel, where its reply goes, and the allowance that it counts in."""

    message: PackedMessage
    channel: str
    queue: SendQueue
    allowance: Allowance

    @property
    def size_bytes(self) -> int:
        return self.message.size_bytes + _PENDING_OVERHEAD_BYTES


class KernelConnection:
    """Connects to the kernel and, after a restart, to the kernel that replaced it."""

    def __init__(self, session: Session, iopub: IOPub, requests: RunningRequests) -> None:
        self._session = session
        self._iopub = iopub
        self._requests = requests
        self._pending: dict[str, _PendingRequest] = {}
        """By message id, oldest first."""
        self._relay: Relay | None = None
        self._ready = asyncio.Event()
        """Set while the kernel's messages are being read."""
        self._pace = Pace()

    async def wait_until_ready(self) -> None:
        """Wait until the kernel's messages are being read, at most `_READY_SEC` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SEC):
                await self._ready.wait()

    def request(self, message: PackedMessage, channel: str, queue: SendQueue, allowance: Allowance) -> bool:
        """Send the kernel a request that it answers as soon as it is idle.

        Args:
            message: the request.
            channel: the channel on which the client sent it and expects the reply.
            queue: the send queue of the client.
            allowance: limits the bytes of the client's requests that the kernel has not answered.

        Returns:
            Whether the request was accepted. It is refused if the allowance is used up, or if the kernel
            does not read.
        """
        pending = _PendingRequest(message, channel, queue, allowance)
        self._forget(message.message_id)
        if not allowance.take(pending.size_bytes):
            return False
        if self._relay is not None and self._ready.is_set() and not self._relay.send(message):
            allowance.give_back(pending.size_bytes)
            return False
        while len(self._pending) >= _MAX_PENDING:
            self._forget(next(iter(self._pending)))
        self._pending[message.message_id] = pending
        return True

    def forget(self, queue: SendQueue) -> None:
        """Drop the requests of a client that the kernel has not answered.

        Requests that are not sent yet are in the way of later ones, so they are dropped with the connection.
        """
        for message_id in [each for each, pending in self._pending.items() if pending.queue is queue]:
            self._forget(message_id)
        if self._relay is not None and self._relay.unsent_bytes and not self._pending:
            self.reconnect()

    def _forget(self, message_id: str) -> None:
        pending = self._pending.pop(message_id, None)
        if pending is not None:
            pending.allowance.give_back(pending.size_bytes)

    def reconnect(self) -> None:
        """Close the connection, as another kernel has replaced this one; `run` opens the next."""
        if self._relay is not None:
            self._relay.close()

    async def run(self) -> None:
        """Keep a connection to the kernel, or to its replacement, until cancelled."""
        refused_since = time.monotonic()
        while True:
            relay = Relay(self._session.sandbox.connection)
            try:
                await relay.open()
                refused_since = time.monotonic()
                await self._read(relay)
            except (ChannelBroken, TimeoutError):
                pass
            finally:
                self._ready.clear()
                relay.close()
                self._requests.connection_lost()
            if time.monotonic() - refused_since > _DEAD_SEC and not self._session.busy:
                await self._revive()
                refused_since = time.monotonic()
            await asyncio.sleep(_RETRY_SEC)
            await self._session.kernel.is_in_place.wait()

    async def _revive(self) -> None:
        try:
            await self._session.revive()
        except (CallFailed, SessionsError) as error:
            log.warning("session %s has no kernel: %s", self._session.session_id, log_text(error))

    async def _read(self, relay: Relay) -> None:
        """Read both channels until one of them breaks."""
        self._relay = relay
        # Closing a relay cancels the tasks that wait for a message, so each reader is a task of its own.
        readers = [asyncio.create_task(work) for work in (self._read_shell(relay), self._read_iopub(relay))]
        try:
            await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for reader in readers:
                reader.cancel()
            for error in await asyncio.gather(*readers, return_exceptions=True):
                if not isinstance(error, ChannelBroken | asyncio.CancelledError):
                    log.error(
                        "session %s: the messages of its kernel cannot be read",
                        self._session.session_id,
                        exc_info=error,
                    )

    async def _read_shell(self, relay: Relay) -> None:
        """Pass replies on to the clients that sent the requests."""
        while True:
            reply = (await self._paced(await relay.reply())).message
            if reply is None or reply.parent_id not in self._pending:
                continue
            pending = self._pending[reply.parent_id]
            if reply.kind == pending.message.kind.removesuffix("request") + "reply":
                self._forget(reply.parent_id)
                header = sanitized_header(reply.header)
                if header is not None:
                    answer = self._iopub.with_kernel_session(replace(reply, header=header))
                    pending.queue.put(encode(pending.channel, answer))

    async def _read_iopub(self, relay: Relay) -> None:
        """Publish the valid messages of the kernel to all clients."""
        if not self._session.busy:
            await self._wait_for_subscription(relay)
        self._ready.set()
        for pending in list(self._pending.values()):
            relay.send(pending.message)
            await relay.drain()
        while True:
            relayed = await self._paced(await relay.published())
            message = relayed.message and messages.valid_iopub_message(relayed.message)
            if message is not None:
                await self._requests.publish(self._iopub.with_kernel_session(message), relayed.size_bytes)

    async def _wait_for_subscription(self, relay: Relay) -> None:
        """Send requests until the kernel publishes a message for one.

        The kernel drops what it publishes before the subscription to its iopub channel has arrived.
        """
        for _ in range(_PROBES):
            probe = self._iopub.message("kernel_info_request", {}, {}).packed()
            relay.send(probe)
            try:
                async with asyncio.timeout(_PROBE_SEC):
                    while (message := (await relay.published()).message) is not None:
                        if message.parent_id == probe.message_id:
                            return
            except TimeoutError:
                continue

    async def _paced(self, relayed: Relayed) -> Relayed:
        """Return the message when its turn comes, so that a flood leaves time for other sessions."""
        await self._pace.take(relayed.size_bytes)
        return relayed
