"""Traces: one for each request, with the execution it asks for and the stages of that beneath it.

Spans of an execution are made when it is over, from its timeline, so that tracing costs nothing while
code runs, and nothing at all where no collector is configured: OpenTelemetry is imported only then.
"""

from collections.abc import Iterable
from typing import Protocol

from service.settings.telemetry import TelemetrySettings
from service.telemetry.metrics import Metrics
from service.telemetry.request_context import RequestContext
from sessions.records import ExecutionRecord
from sessions.timeline import Timeline


class Traces(Protocol):
    """What is told to be traced. Quick, never waits, and never raises."""

    def request_began(self, trail: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """A request has come; its `traceparent` is honoured."""

    def request_ended(self, trail: RequestContext, method: str, route: str, status: int) -> None:
        """Its answer has left."""

    def executed(self, trail: RequestContext | None, record: ExecutionRecord, timeline: Timeline) -> None:
        """An execution is over."""

    def waited(self, trail: RequestContext | None, timeline: Timeline) -> None:
        """A session has its kernel."""

    async def close(self) -> None:
        """Send what is left, if that is possible within a moment."""


class NoTraces:
    """Where nobody collects them."""

    def request_began(self, trail: RequestContext, headers: Iterable[tuple[bytes, bytes]]) -> None:
        pass

    def request_ended(self, trail: RequestContext, method: str, route: str, status: int) -> None:
        pass

    def executed(self, trail: RequestContext | None, record: ExecutionRecord, timeline: Timeline) -> None:
        pass

    def waited(self, trail: RequestContext | None, timeline: Timeline) -> None:
        pass

    async def close(self) -> None:
        pass


def open_traces(settings: TelemetrySettings, metrics: Metrics) -> Traces:
    """What the settings ask for. Raises ``OtlpMissing``, or ``OtlpUnusable``."""
    if not settings.sends_traces:
        return NoTraces()
    # Fifteen megabytes and a tenth of a second.
    from service.telemetry.otlp import OtlpTraces  # noqa: PLC0415

    return OtlpTraces(metrics)
