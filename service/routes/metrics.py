"""``/metrics``: what is counted and measured, for Prometheus."""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.http.dependencies import FilesDep, KernelsDep, MetricsDep, SessionsDep

router = APIRouter(tags=["health"])

_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Prometheus' text format, or OpenMetrics where `Accept` asks for it.",
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
    """Give all counts and times since the start, for Prometheus."""
    metrics.look(kernels.counts(), sessions.counts(), files.stored())
    # It takes some milliseconds, in which others should be served.
    text, media_type = await asyncio.to_thread(metrics.text, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
