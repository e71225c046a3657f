"""``/health`` and ``/ready``: the status of the service, for people, load balancers and probes."""

from typing import Final

from fastapi import APIRouter, Request

import service
from service.http.answers import ErrorResponse
from service.http.dependencies import KernelsDep, SettingsDep
from service.http.guard import sees_report
from service.operations.pool_settings import REUSE
from service.routes.schemas.errors import ErrorBody
from service.routes.schemas.health import (
    Health,
    KernelImage,
    NotReadyBody,
    PoolCounts,
    Readiness,
    ReadyStatus,
    SelfTestCheck,
)

_NOT_READY: Final = "No code can run now. The reason is shown to callers with a key and to this machine"

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(kernels: KernelsDep) -> Health:
    """Return whether the service can run code, as `status`. The status code is always 200."""
    problem = await kernels.problem()
    return Health(status="error" if problem else "ok", message=problem, version=service.__version__)


@router.get(
    "/ready", response_model=Readiness | ReadyStatus, responses={503: {"model": NotReadyBody | ErrorBody}}
)
async def ready(
    request: Request, kernels: KernelsDep, settings: SettingsDep
) -> Readiness | ReadyStatus | ErrorResponse:
    """Return 200 if the service can run code, 503 if no kernel is ready and none can be started.

    The report has more than the status. It needs a key, or a request from the machine of the service.
    """
    reason = await kernels.not_ready()
    if not sees_report(request.scope):
        return ReadyStatus() if reason is None else ErrorResponse(503, "not_ready", _NOT_READY)
    pool = PoolCounts.model_validate(kernels.counts())
    if reason is not None:
        facts = {"instance_id": kernels.instance_id, "pool": pool.model_dump()}
        return ErrorResponse(503, "not_ready", reason, facts=facts)
    self_test = [SelfTestCheck.model_validate(check) for check in kernels.self_test]
    return Readiness(
        instance_id=kernels.instance_id,
        pool=pool,
        image=KernelImage.of(kernels.image()),
        reuse=REUSE[settings.pool.container_reuse],
        self_test=self_test,
    )
