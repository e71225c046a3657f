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
    """Whether the service works; the status code is 200 either way."""

    status: Literal["ok", "error"] = Field(description="`error`: code cannot be run now.", examples=["ok"])
    message: str | None = Field(description="What is wrong, if anything.", examples=[None])
    version: str = Field(description="Version of the service.", examples=["0.5.0"])


class PoolCounts(BaseModel):
    """The kernels there are, by what they do."""

    model_config = ConfigDict(from_attributes=True)

    ready: int = Field(description="Waiting for work.", examples=[2])
    starting: int = Field(description="Being made.", examples=[0])
    busy: int = Field(description="Running code.", examples=[1])
    waiting: int = Field(description="Callers that wait for one.", examples=[0])
    target: int = Field(description="How many are kept ready.", examples=[2])


class SelfTestCheck(BaseModel):
    """One wall around the user's code, as the service found it when it started."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Which wall.", examples=["capabilities"])
    ok: bool = Field(description="Whether it holds; unless all do, nothing is served.", examples=[True])
    detail: str = Field(description="What was seen of it.", examples=["every set is empty"])


class KernelImage(BaseModel):
    """What kernels are launched from."""

    name: str = Field(
        description="`PYTHON_EXECUTOR_DOCKER_IMAGE`.", examples=["code-interpreter-kernel:latest"]
    )
    id: str = Field(description="The engine's id of it.", examples=[_IMAGE_ID])
    version: str | None = Field(description="Version it was built for; null: unknown.", examples=["0.5.0"])
    digest: str | None = Field(
        description="Digest of the `kernel_image/` it was built from; null: unknown.",
        examples=[_IMAGE_DIGEST],
    )
    warnings: list[str] = Field(
        description="How it differs from what this service was made with, and what has become of its name.",
        examples=[[]],
    )

    @classmethod
    def of(cls, status: ImageStatus) -> Self:
        """The wire form of what the pool says."""
        labels = status.image.labels or {}
        return cls(
            name=status.name,
            id=status.image.image_id,
            version=labels.get(contract.VERSION_LABEL),
            digest=labels.get(contract.DIGEST_LABEL),
            warnings=list(status.warnings),
        )


class Readiness(BaseModel):
    """That executions are served."""

    status: Literal["ready"] = Field("ready", description="Always `ready`.", examples=["ready"])
    instance_id: str = Field(
        description="What this service's containers are labelled with.", examples=[EXECUTION_ID]
    )
    pool: PoolCounts = Field(
        description="The kernels there are.",
        examples=[{"ready": 2, "starting": 0, "busy": 1, "waiting": 0, "target": 2}],
    )
    image: KernelImage = Field(
        description="The image in use, and what is odd about it.",
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
    self_test: list[SelfTestCheck] = Field(
        description="What keeps the user's code in, as tried from inside a kernel at the start.",
        examples=[[{"name": "capabilities", "ok": True, "detail": "every set is empty"}]],
    )


class NotReadyBody(ErrorBody):
    """Why executions are not served yet."""

    instance_id: str = Field(
        description="What this service's containers are labelled with.", examples=[EXECUTION_ID]
    )
    pool: PoolCounts = Field(description="The kernels there are.")
