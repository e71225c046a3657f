"""Traces: one for each request. The spans of its execution and of the stages are below its span.

The spans of an execution are made from its timeline when it has ended, so tracing costs nothing while
code runs. OpenTelemetry is imported only if a collector is configured.
"""

from collections.abc import Iterable
from typing import Protocol

from service.settings.telemetry import TelemetrySettings
from service.telemetry.metrics import Metrics
from service.telemetry.request_context import RequestContext
from sessions.records import ExecutionRecord
from sessions.timeline import Timeline


class Traces(Protocol):
    """Receives what is traced. The methods are called on the hot path: they never wait and never raise."""

    def request_began(self, context: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin the span of a request, below the span that its header `traceparent` names."""

    def request_ended(self, context: RequestContext, method: str, route: str, status: int) -> None:
        """End the span of a request. Called when the response has been sent."""

    def executed(self, context: RequestContext | None, record: ExecutionRecord, timeline: Timeline) -> None:
        """Make the spans of an execution that has ended."""

    def waited(self, context: RequestContext | None, timeline: Timeline) -> None:
        """Make the spans of the wait for the kernel of a new session."""

    async def close(self) -> None:
        """Send the remaining spans, within two seconds."""


class NoTraces:
    """Traces that drop everything, for a service without a collector."""

    def request_began(self, context: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        pass

    def request_ended(self, context: RequestContext, method: str, route: str, status: int) -> None:
        pass

    def executed(self, context: RequestContext | None, record: ExecutionRecord, timeline: Timeline) -> None:
        pass

    def waited(self, context: RequestContext | None, timeline: Timeline) -> None:
        pass

    async def close(self) -> None:
        pass


def open_traces(settings: TelemetrySettings, metrics: Metrics) -> Traces:
    """Return the traces that the settings ask for.

    Raises:
        OtlpMissing: OpenTelemetry is not installed.
        OtlpUnusable: a variable `OTEL_*` has an invalid value.
    """
    if not settings.sends_traces:
        return NoTraces()
    # The import takes 15 MB of memory and 0.1 s.
    from service.telemetry.otlp import OtlpTraces  # noqa: PLC0415

    return OtlpTraces(metrics)
