"""``/metrics``: the metrics of the service, for Prometheus."""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.http.dependencies import FilesDep, KernelsDep, MetricsDep, SessionsDep

router = APIRouter(tags=["health"])

_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Text format of Prometheus, or OpenMetrics if `Accept` asks for it.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    }
}


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(
    request: Request, metrics: MetricsDep, kernels: KernelsDep, sessions: SessionsDep, files: FilesDep
) -> Response:
    """Return all metrics since the start of the service, for Prometheus."""
    metrics.set_gauges(kernels.counts(), sessions.counts(), files.stored())
    # Formatting takes some milliseconds, which would delay other requests on the event loop.
    text, media_type = await asyncio.to_thread(metrics.text, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
