"""Limits on the bytes that the gateway keeps: messages that wait for kernels, and messages for clients.

There are limits for one client, for all clients of a kernel, for all kernels of an owner, and for all owners.
"""

import weakref
from typing import Final

from service.gateway.frames import EncodedMessage

_CLIENT_MESSAGES: Final = 1.25
_KERNEL_MESSAGES: Final = 1.5
_OWNER_MESSAGES: Final = 2
_SERVICE_MESSAGES: Final = 3
"""Bytes that wait for kernels, as multiples of the size limit of one message."""
_LEAST_MESSAGE_BYTES: Final = 4 << 20
"""Even with a lower size limit, a thousand cells of a notebook may wait."""
_SERVICE_OUTPUT_BYTES: Final = 24 << 20
_OWNER_OUTPUT_BYTES: Final = 20 << 20
_KERNEL_OUTPUT_BYTES: Final = 17 << 20
"""Large enough for the largest message of a kernel."""
_SERVICE_REPLY_BYTES: Final = 8 << 20
_OWNER_REPLY_BYTES: Final = 6 << 20
_KERNEL_REPLY_BYTES: Final = 5 << 20
"""Large enough for the replies and statuses of a thousand cells that are aborted at once."""
_OVERHEAD_BYTES: Final = 1000
"""Memory of a message besides its JSON."""


class Allowance:
    """A limit on bytes. What is taken counts in this allowance and in the one that it is a part of."""

    def __init__(self, limit_bytes: int, part_of: "Allowance | None" = None) -> None:
        self._limit_bytes = limit_bytes
        self._part_of = part_of
        self._held_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Count bytes that are to be held. Return False, and count nothing, if that is over a limit."""
        if size_bytes > self._limit_bytes - self._held_bytes:
            return False
        if self._part_of is not None and not self._part_of.take(size_bytes):
            return False
        self._held_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Count bytes that are no longer held. The caller has taken them before."""
        self._held_bytes -= size_bytes
        if self._part_of is not None:
            self._part_of.give_back(size_bytes)


class OwnerAllowances:
    """The allowance of the whole service, and a part of it for each owner."""

    def __init__(self, service_bytes: int, owner_bytes: int) -> None:
        self._service = Allowance(service_bytes)
        self._owner_bytes = owner_bytes
        self._owners: dict[str, Allowance] = {}

    def of(self, owner: str) -> Allowance:
        """Return the allowance of an owner."""
        allowance = self._owners.get(owner)
        if allowance is None:
            allowance = self._owners[owner] = Allowance(self._owner_bytes, self._service)
        return allowance


class GatewayMemory:
    """The limits of all kernels."""

    def __init__(self, message_bytes: int) -> None:
        """`message_bytes` is the size limit of a client's message."""
        message_bytes = max(message_bytes, _LEAST_MESSAGE_BYTES)
        self._message_bytes = message_bytes
        self._requests = OwnerAllowances(_SERVICE_MESSAGES * message_bytes, _OWNER_MESSAGES * message_bytes)
        self._outputs = OwnerAllowances(_SERVICE_OUTPUT_BYTES, _OWNER_OUTPUT_BYTES)
        self._replies = OwnerAllowances(_SERVICE_REPLY_BYTES, _OWNER_REPLY_BYTES)

    def for_kernel(self, owner: str) -> "KernelMemory":
        """Return the limits of a kernel of this owner."""
        return KernelMemory(
            Allowance(int(_KERNEL_MESSAGES * self._message_bytes), self._requests.of(owner)),
            int(_CLIENT_MESSAGES * self._message_bytes),
            Allowance(_KERNEL_OUTPUT_BYTES, self._outputs.of(owner)),
            Allowance(_KERNEL_REPLY_BYTES, self._replies.of(owner)),
        )


class KernelMemory:
    """The limits of one kernel."""

    def __init__(
        self, requests: Allowance, client_bytes: int, outputs: Allowance, replies: Allowance
    ) -> None:
        """Make the limits.

        Args:
            requests: for messages of clients that wait for the kernel.
            client_bytes: for those of one client.
            outputs: for outputs that wait for clients.
            replies: for messages without which a client would wait forever.
        """
        self.outputs = outputs
        self._requests = requests
        self._client_bytes = client_bytes
        self._replies = replies
        self._held: weakref.WeakSet[EncodedMessage] = weakref.WeakSet()

    def for_client(self) -> Allowance:
        """Return the allowance of a new client for messages that wait for the kernel."""
        return Allowance(self._client_bytes, self._requests)

    def hold(self, encoded: EncodedMessage, is_essential: bool) -> bool:
        """Count a message for clients until it is deleted. Return False if there is no room for it.

        All queues share a message, so it counts once.
        """
        if encoded in self._held:
            return True
        allowance = self._replies if is_essential else self.outputs
        size_bytes = encoded.size_bytes + _OVERHEAD_BYTES
        if not allowance.take(size_bytes):
            return False
        weakref.finalize(encoded, allowance.give_back, size_bytes).atexit = False
        self._held.add(encoded)
        return True
