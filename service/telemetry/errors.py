"""Errors of `service.telemetry`."""

from service.errors import StartError


class OtlpMissing(StartError):
    """Traces are to be sent, but OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "pip install 'code-interpreter[otlp]'."
        )


class OtlpUnusable(StartError):
    """One of OpenTelemetry's own variables makes no sense; the reason is the library's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Traces cannot be sent as the OTEL_* variables say: {reason}")
        self.reason = reason
