"""Settings of the pool: how many containers there are, and how long each is used."""

from typing import Literal, Self

from pydantic import Field, model_validator

from service.settings.values import Group


class PoolSizeSettings(Group):
    """How many kernels are ready, how many callers may wait, and whether containers are reused."""

    pool_size: int = Field(
        2,
        ge=0,
        description="Kernels kept ready. For a number that follows the demand, set the next two.",
    )
    pool_min: int | None = Field(
        None, ge=0, description="Fewest kernels kept ready; unset means `POOL_SIZE`."
    )
    pool_max: int | None = Field(
        None,
        ge=0,
        description="Most kernels kept ready; unset means `POOL_SIZE`. Between `POOL_MIN` and this, the "
        "number follows the demand of the last ten seconds.",
    )
    max_containers: int = Field(
        16, ge=1, description="Most containers at the same time, those of the pool included."
    )
    queue_size: int = Field(
        64, ge=0, description="Callers that may wait for a kernel; further callers get 429 at once."
    )
    queue_timeout_sec: float = Field(
        30, gt=0, allow_inf_nan=False, description="Longest wait for a kernel, in seconds."
    )
    container_reuse: Literal["never", "tenant"] = Field(
        "tenant",
        description="`tenant`: a container whose call or session ended well is made as new, compared with "
        "its first state, and serves the same API key again. `never`: each call and each session gets a new "
        "container. See reuse.md.",
    )
    container_max_uses: int = Field(1000, ge=1, description="Calls after which a container is removed.")
    container_max_age_sec: int = Field(
        3600, ge=1, description="Seconds after which a container is not used again."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least_ready > self.most_ready:
            raise ValueError(
                f"POOL_MIN ({self.least_ready}) must not be larger than POOL_MAX ({self.most_ready})"
            )
        if self.most_ready > self.max_containers:
            name = "POOL_SIZE" if self.pool_max is None else "POOL_MAX"
            raise ValueError(
                f"{name} ({self.most_ready}) must not be larger than MAX_CONTAINERS ({self.max_containers})"
            )
        return self

    @property
    def least_ready(self) -> int:
        """Fewest kernels kept ready."""
        return self.pool_size if self.pool_min is None else self.pool_min

    @property
    def most_ready(self) -> int:
        """Most kernels kept ready."""
        return max(self.pool_size, self.least_ready) if self.pool_max is None else self.pool_max
