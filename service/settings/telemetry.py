"""Settings of traces. OpenTelemetry's own library reads its other variables."""

from pydantic import Field

from service.settings.values import Group


class TelemetrySettings(Group):
    """The collector that traces are sent to."""

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over HTTP) that receives traces; unset means "
        "no traces. The other `OTEL_*` variables have their standard meaning, see observability.md.",
    )
    otel_exporter_otlp_traces_endpoint: str | None = Field(
        None,
        description="The whole URL for traces, with its path; used instead of `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    otel_sdk_disabled: bool = Field(
        False, description="`true`: send no traces, even if a collector is configured."
    )

    @property
    def sends_traces(self) -> bool:
        """Whether traces are sent to a collector."""
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return endpoint is not None and not self.otel_sdk_disabled
