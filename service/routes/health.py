"""``/health`` and ``/ready``: the status of the service, for people, load balancers and probes."""

from fastapi import APIRouter

import service
from service.http.answers import ErrorResponse
from service.http.dependencies import KernelsDep
from service.routes.schemas.health import (
    Health,
    KernelImage,
    NotReadyBody,
    PoolCounts,
    Readiness,
    SelfTestCheck,
)

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(kernels: KernelsDep) -> Health:
    """Return whether the service can run code, as `status`. The status code is always 200."""
    problem = await kernels.problem()
    return Health(status="error" if problem else "ok", message=problem, version=service.__version__)


@router.get("/ready", response_model=Readiness, responses={503: {"model": NotReadyBody}})
async def ready(kernels: KernelsDep) -> Readiness | ErrorResponse:
    """Return 200 if the service can run code, 503 if no kernel is ready and none can be started."""
    pool = PoolCounts.model_validate(kernels.counts())
    reason = await kernels.not_ready()
    if reason is not None:
        facts = {"instance_id": kernels.instance_id, "pool": pool.model_dump()}
        return ErrorResponse(503, "not_ready", reason, facts=facts)
    self_test = [SelfTestCheck.model_validate(check) for check in kernels.self_test]
    return Readiness(
        instance_id=kernels.instance_id,
        pool=pool,
        image=KernelImage.of(kernels.image()),
        self_test=self_test,
    )
