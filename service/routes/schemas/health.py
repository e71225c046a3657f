"""JSON bodies of `/health` and `/ready`."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from kernel_image import contract
from service.http.values import EXECUTION_ID
from service.routes.schemas.errors import ErrorBody
from sessions.containers.image_care import ImageStatus

_IMAGE_ID = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
_IMAGE_DIGEST = "9c1f6f2a0d3b4e58a7c6b5d4e3f2a190"


class Health(BaseModel):
    """Whether the service can run code. The status code is 200 in both cases."""

    status: Literal["ok", "error"] = Field(
        description="`error`: the service cannot run code now.", examples=["ok"]
    )
    message: str | None = Field(description="Description of the problem; null without one.", examples=[None])
    version: str = Field(description="Version of the service.", examples=["0.5.0"])


class PoolCounts(BaseModel):
    """Numbers of kernels by state, and of waiting callers."""

    model_config = ConfigDict(from_attributes=True)

    ready: int = Field(description="Kernels that are ready for work.", examples=[2])
    starting: int = Field(description="Kernels that are being started.", examples=[0])
    busy: int = Field(description="Kernels that are in use.", examples=[1])
    waiting: int = Field(description="Callers that wait for a kernel.", examples=[0])
    target: int = Field(description="Number of kernels that the pool keeps ready.", examples=[2])


class SelfTestCheck(BaseModel):
    """The result of one isolation check of the self-test."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Name of the isolation check.", examples=["capabilities"])
    ok: bool = Field(
        description="Whether the check passed. The service only starts if all checks pass.", examples=[True]
    )
    detail: str = Field(description="What the check found.", examples=["every set is empty"])


class KernelImage(BaseModel):
    """The image from which containers are launched."""

    name: str = Field(
        description="Value of `PYTHON_EXECUTOR_DOCKER_IMAGE`.", examples=["code-interpreter-kernel:latest"]
    )
    id: str = Field(description="Id of the image in the engine.", examples=[_IMAGE_ID])
    version: str | None = Field(
        description="Version of the service that the image was built for; null: unknown.", examples=["0.5.0"]
    )
    digest: str | None = Field(
        description="Digest of the folder `kernel_image/` that the image was built from; null: unknown.",
        examples=[_IMAGE_DIGEST],
    )
    warnings: list[str] = Field(
        description="Differences from the image that this version of the service expects, and whether the "
        "tag now names another image.",
        examples=[[]],
    )

    @classmethod
    def of(cls, status: ImageStatus) -> Self:
        """Return the wire form of the pool's image."""
        labels = status.image.labels or {}
        return cls(
            name=status.name,
            id=status.image.image_id,
            version=labels.get(contract.VERSION_LABEL),
            digest=labels.get(contract.DIGEST_LABEL),
            warnings=list(status.warnings),
        )


class ReadyStatus(BaseModel):
    """The status of a service that serves executions, for callers that may not see its report."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["ready"] = Field("ready", description="Always `ready`.", examples=["ready"])


class Readiness(BaseModel):
    """The state of a service that serves executions."""

    status: Literal["ready"] = Field("ready", description="Always `ready`.", examples=["ready"])
    instance_id: str = Field(
        description="Id of this instance of the service. Its containers have it as a label.",
        examples=[EXECUTION_ID],
    )
    pool: PoolCounts = Field(
        description="Numbers of kernels by state.",
        examples=[{"ready": 2, "starting": 0, "busy": 1, "waiting": 0, "target": 2}],
    )
    image: KernelImage = Field(
        description="The image in use, with warnings about it.",
        examples=[
            {
                "name": "code-interpreter-kernel:latest",
                "id": _IMAGE_ID,
                "version": "0.5.0",
                "digest": _IMAGE_DIGEST,
                "warnings": [],
            }
        ],
    )
    reuse: str = Field(
        description="What `CONTAINER_REUSE` does, and when to choose its other value.",
        examples=["A container that was made as new serves the same API key again."],
    )
    self_test: list[SelfTestCheck] = Field(
        description="Results of the self-test, which runs in a kernel when the service starts.",
        examples=[[{"name": "capabilities", "ok": True, "detail": "every set is empty"}]],
    )


class NotReadyBody(ErrorBody):
    """The state of a service that cannot serve executions now, and the reason."""

    instance_id: str = Field(
        description="Id of this instance of the service. Its containers have it as a label.",
        examples=[EXECUTION_ID],
    )
    pool: PoolCounts = Field(description="Numbers of kernels by state.")
