"""Settings of one container: its image, its kernel, its limits."""

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from service.settings.values import MIB, Group, Names

_MODULE_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class ContainerSettings(Group):
    """The image and the limits that every container gets."""

    python_executor_docker_image: str = Field(
        "code-interpreter-kernel:latest", description="Image that kernels run in."
    )
    image_pull: Literal["missing", "always", "never"] = Field(
        "missing",
        description="When to pull an image whose name contains a `/`: if it is missing, at every start, or "
        "never. Other images are built on this machine and never pulled.",
    )
    workspace_size_mb: int = Field(128, ge=1, description="Size of `/workspace`, in MiB.")
    tmp_size_mb: int = Field(64, ge=1, description="Size of `/tmp`, in MiB.")
    pids_limit: int = Field(
        256, ge=32, description="Most processes and threads in one container, the supervisor's included."
    )
    kernel_cpus: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="CPUs that one container may use; `0.5` is half a CPU."
    )
    kernel_preload: Names = Field(
        ("numpy", "pandas", "matplotlib.pyplot"),
        description="Modules that a ready kernel has already imported, comma separated; `none` for none.",
    )
    kernel_learn_mb: int = Field(
        128,
        ge=0,
        description="Memory in MiB that more modules may take in a ready kernel. Heavy modules that programs "
        "have imported, such as `scipy.stats` and `sklearn.linear_model`, are preloaded in new kernels up to "
        "this. 0 means none.",
    )
    kernel_runtime: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="OCI runtime of the containers, known to the engine, such as `runsc`; for pods, their "
        "RuntimeClass. Unset means the default, see security.md.",
    )
    lease_sec: int = Field(
        60,
        ge=2,
        description="Seconds after which a container that lost its service removes itself.",
    )
    instance_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Label of this service's containers; unset means a random one, created at the first "
        "start and kept in the registry.",
    )

    @field_validator("kernel_preload")
    @classmethod
    def _are_modules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _MODULE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a module")
        return names

    @property
    def workspace_bytes(self) -> int:
        """``workspace_size_mb`` in bytes."""
        return self.workspace_size_mb * MIB

    @property
    def learn_bytes(self) -> int:
        """``kernel_learn_mb`` in bytes."""
        return self.kernel_learn_mb * MIB

    @property
    def tmp_bytes(self) -> int:
        """``tmp_size_mb`` in bytes."""
        return self.tmp_size_mb * MIB
