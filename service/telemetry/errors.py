"""Errors of `service.telemetry`."""

from service.errors import StartError


class OtlpMissing(StartError):
    """``OTEL_EXPORTER_OTLP_ENDPOINT`` is set, but OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed. "
            "Run: pip install 'code-interpreter[otlp]'"
        )


class OtlpUnusable(StartError):
    """A variable ``OTEL_*`` has an invalid value. ``reason`` is the message of OpenTelemetry."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"A variable OTEL_* has an invalid value: {reason}")
        self.reason = reason
