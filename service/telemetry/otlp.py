"""Traces that OpenTelemetry sends over OTLP/HTTP. Only this module imports OpenTelemetry.

OpenTelemetry itself reads its standard variables: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
`OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_HEADERS` and others.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import service
from service.telemetry.errors import OtlpMissing, OtlpUnusable
from service.telemetry.metrics import Metrics
from service.telemetry.request_context import RequestContext
from sessions.records import ExecutionRecord
from sessions.timeline import Period, Timeline

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise OtlpMissing from error

log = logging.getLogger(__name__)

_CLOSE_SEC: Final = 2.0
_STAGES: Final = {"stage": "stage files"}
"""Names of spans by the names of stages, where they differ."""


class OtlpTraces:
    """Traces that a thread sends to a collector, from a bounded queue."""

    def __init__(self, metrics: Metrics) -> None:
        """Start the thread. Raises `OtlpUnusable` if a variable `OTEL_*` has an invalid value."""
        ours = Resource({"service.name": "code-interpreter", "service.version": service.__version__})
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        try:
            self._provider.add_span_processor(_Queue(_Exporter(OTLPSpanExporter(), metrics), metrics))
        except ValueError as error:
            raise OtlpUnusable(str(error)) from error
        self._tracer = self._provider.get_tracer("code-interpreter", service.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def request_began(self, context: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        parent = self._propagator.extract(carrier)
        span = context.span = self._tracer.start_span("request", parent, kind=SpanKind.SERVER)
        context.trace_id = f"{span.get_span_context().trace_id:032x}"
        span.set_attribute("code_interpreter.request_id", context.request_id)

    def request_ended(self, context: RequestContext, method: str, route: str, status: int) -> None:
        if (span := context.span) is None:
            return
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def executed(self, context: RequestContext | None, record: ExecutionRecord, timeline: Timeline) -> None:
        span = self._tracer.start_span(
            "execution",
            _below(context),
            attributes=_attributes(record),
            start_time=_nanoseconds(record.created_at),
        )
        if record.outcome in ("lost", "failed"):
            span.set_status(Status(StatusCode.ERROR))
        self._make_spans(timeline.periods, set_span_in_context(span))
        span.end(_nanoseconds(record.finished_at))

    def waited(self, context: RequestContext | None, timeline: Timeline) -> None:
        self._make_spans(timeline.periods, _below(context))

    def _make_spans(self, periods: Iterable[Period], parent: Any) -> None:
        for period in periods:
            name = _STAGES.get(period.name, period.name)
            span = self._tracer.start_span(name, parent, start_time=_nanoseconds(period.began))
            self._make_spans(period.inside, set_span_in_context(span))
            span.end(_nanoseconds(period.ended))

    async def close(self) -> None:
        """Send the remaining spans. Return after two seconds, even if the collector does not answer."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            # After two seconds, the event loop may be closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(closed.set)

        # A daemon thread, because the process must not wait for it at its exit.
        threading.Thread(target=close, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SEC):
                await closed.wait()


def _below(context: RequestContext | None) -> Any:
    return None if context is None or context.span is None else set_span_in_context(context.span)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _attributes(record: ExecutionRecord) -> dict[str, str | int | float]:
    facts = {
        "execution_id": record.execution_id,
        "kind": record.kind,
        "session_id": record.session_id,
        "outcome": record.outcome,
        "exit_code": record.exit_code,
        "cpu_ms": record.cpu_ms,
        "code_bytes": record.code_bytes,
        "stdout_bytes": record.stdout_bytes,
        "stderr_bytes": record.stderr_bytes,
        "display_bytes": record.display_bytes,
        "files_in": record.files_in,
        "files_in_bytes": record.files_in_bytes,
        "files_out": record.files_out,
        "files_out_bytes": record.files_out_bytes,
    }
    return {f"code_interpreter.{name}": value for name, value in facts.items() if value is not None}


class _Queue(BatchSpanProcessor):
    """A queue that counts the spans that it drops because it is full. The library drops them silently."""

    def __init__(self, exporter: SpanExporter, metrics: Metrics) -> None:
        super().__init__(exporter)
        self._metrics = metrics

    def on_end(self, span: ReadableSpan) -> None:
        # The library has no public way to read the length of the queue.
        queue = self._batch_processor._queue  # noqa: SLF001
        if len(queue) == queue.maxlen and span.context is not None and span.context.trace_flags.sampled:
            self._metrics.spans("dropped", 1)
        super().on_end(span)


class _Exporter(SpanExporter):
    """An exporter that logs when the collector stops accepting spans, and when it accepts them again."""

    def __init__(self, exporter: OTLPSpanExporter, metrics: Metrics) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._is_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        is_down = result is not SpanExportResult.SUCCESS
        self._metrics.spans("dropped" if is_down else "sent", len(spans))
        if is_down and not self._is_down:
            log.warning(
                "The collector (OTEL_EXPORTER_OTLP_ENDPOINT) does not accept traces. "
                "They are dropped until it does."
            )
        elif self._is_down and not is_down:
            log.info("The collector accepts traces again.")
        self._is_down = is_down
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
