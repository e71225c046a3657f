"""An OpenTelemetry collector of the tests' own: it takes traces over OTLP/HTTP and keeps them."""

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
    """A span as it arrived; ids are hexadecimal, times are nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    is_error: bool


class Collector:
    """Listens on a free port of this machine until it is closed."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self.raw: list[bytes] = []
        """The requests' bodies."""
        self.resource: dict[str, Any] = {}
        """What the last of them said of the service."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
                if known:
                    collector._take(body)
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, body: bytes) -> None:
        self.raw.append(body)
        for of in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _plain(of.resource.attributes)
            for scope in of.scope_spans:
                self._spans += [_span(span) for span in scope.spans]

    def trace(self, trace_id: str, is_whole: Callable[[list[Span]], bool], seconds: float = 60) -> list[Span]:
        """The spans of one trace, once it `is_whole`."""
        deadline = time.monotonic() + seconds
        while not is_whole(found := [span for span in self._spans if span.trace_id == trace_id]):
            assert time.monotonic() < deadline, f"not whole after {seconds} s: {found}"
            time.sleep(0.05)
        return found

    def traces(self, has: Callable[[Span], bool], number: int, seconds: float = 60) -> set[str]:
        """The ids of traces that have such a span, once there are so many."""
        deadline = time.monotonic() + seconds
        while len(ids := {span.trace_id for span in list(self._spans) if has(span)}) < number:
            assert time.monotonic() < deadline, f"only {len(ids)} after {seconds} s"
            time.sleep(0.05)
        return ids

    def close(self) -> None:
        """Listen no more."""
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
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
