"""An OpenTelemetry collector for tests. It receives traces over OTLP/HTTP and keeps them in memory."""

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A received span. Ids are hexadecimal, times are nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    is_error: bool


class Collector:
    """A collector that listens on a free port of this machine until it is closed."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self.raw: list[bytes] = []
        """Bodies of the received requests."""
        self.resource: dict[str, Any] = {}
        """Attributes of the service in the last received request."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                is_valid = (
                    self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
                )
                if is_valid:
                    collector._take(body)
                self.send_response(200 if is_valid else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, body: bytes) -> None:
        self.raw.append(body)
        for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _plain(spans.resource.attributes)
            for scope in spans.scope_spans:
                self._spans += [_span(span) for span in scope.spans]

    def trace(
        self, trace_id: str, is_complete: Callable[[list[Span]], bool], seconds: float = 60
    ) -> list[Span]:
        """Wait until a trace `is_complete`, and return its spans."""
        deadline = time.monotonic() + seconds
        while not is_complete(found := [span for span in self._spans if span.trace_id == trace_id]):
            assert time.monotonic() < deadline, f"the trace is incomplete after {seconds} s: {found}"
            time.sleep(0.05)
        return found

    def traces(self, matches: Callable[[Span], bool], number: int, seconds: float = 60) -> set[str]:
        """Wait until `number` traces have a span that matches, and return the ids of these traces."""
        deadline = time.monotonic() + seconds
        while len(ids := {span.trace_id for span in list(self._spans) if matches(span)}) < number:
            assert time.monotonic() < deadline, f"only {len(ids)} traces after {seconds} s"
            time.sleep(0.05)
        return ids

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _span(span: Any) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_plain(span.attributes),
        is_error=span.status.code == 2,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
