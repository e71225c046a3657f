"""The iopub channel as clients see it: each message goes to all clients of the session."""

import uuid
from dataclasses import replace

from service.gateway import frames
from service.gateway.frames import EncodedMessage, encode
from service.gateway.send_queue import SendQueue
from sessions.models import JsonObject, KernelMessage, Stream


class IOPub:
    """Makes the gateway's own messages and puts messages into the send queues of the subscribed clients."""

    def __init__(self) -> None:
        self._queues: list[SendQueue] = []
        self._kernel_session = uuid.uuid4().hex
        """The `session` field of all message headers, one value for each kernel.

        JupyterLab takes a new value for a new kernel and drops the messages of the old one.
        """

    def subscribe(self, queue: SendQueue) -> None:
        """Send all further messages to this queue, too."""
        self._queues.append(queue)

    def unsubscribe(self, queue: SendQueue) -> None:
        """Send no further message to this queue."""
        self._queues.remove(queue)

    def start_kernel(self) -> None:
        """Let all further messages belong to a new kernel."""
        self._kernel_session = uuid.uuid4().hex

    def message(self, kind: str, content: JsonObject, parent: JsonObject) -> KernelMessage:
        """Return a new message of type `kind`; `parent` is the header of the request, or empty."""
        header = frames.new_header(kind, self._kernel_session, uuid.uuid4().hex)
        return KernelMessage(header, parent, {}, content)

    def stream_message(self, stream: Stream, text: str, parent: JsonObject) -> EncodedMessage:
        """Return the message for printed text."""
        return encode("iopub", self.message("stream", {"name": stream, "text": text}, parent))

    def with_kernel_session(self, message: KernelMessage) -> KernelMessage:
        """Return a message of the kernel with the `session` field that clients expect."""
        return replace(message, header=message.header | {"session": self._kernel_session})

    def publish(self, kind: str, content: JsonObject, parent: JsonObject) -> None:
        """Send a new message to all clients."""
        self.forward(self.message(kind, content, parent))

    def publish_status(self, state: str, parent: JsonObject) -> None:
        """Send an execution state to all clients: busy, idle, starting, restarting or dead."""
        self.publish("status", {"execution_state": state}, parent)

    def publish_text(self, stream: Stream, text: str, parent: JsonObject) -> None:
        """Send printed text to all clients."""
        for queue in self._queues:
            queue.put_text(stream, text, parent)

    def forward(self, message: KernelMessage) -> None:
        """Send a message to all clients as it is."""
        encoded = encode("iopub", message)
        for queue in self._queues:
            queue.put(encoded)
