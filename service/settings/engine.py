"""Settings of the engine: which it is, how the service reaches it and the kernels that it runs."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from service.settings.values import Group, Lower, Pairs

_HOST_NAME: Final = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"


class EngineSettings(Group):
    """A Docker engine or a Kubernetes cluster, and the network between it and the service."""

    executor_backend: Annotated[Literal["docker", "kubernetes"], Lower] = Field(
        "docker",
        description="Where kernels run: `docker` for containers of a Docker engine, `kubernetes` for pods of "
        "a cluster, see kubernetes.md.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="Kubeconfig file of the cluster; unset means the service account of the service's own "
        "pod, or else `~/.kube/config`.",
    )
    kubernetes_namespace: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Namespace of the kernels' pods; unset means the service's own, or the kubeconfig's.",
    )
    kubernetes_node_selector: Pairs = Field(
        (), description="Labels of the nodes that kernels may run on, `NAME=VALUE,NAME=VALUE`."
    )
    kubernetes_start_timeout_sec: float = Field(
        180,
        gt=0,
        allow_inf_nan=False,
        description="Longest start of a pod, in seconds; includes pulling the image and adding a node.",
    )
    docker_host: str | None = Field(
        None,
        description="URL of the engine, `unix://…` or `tcp://…`; unset means the usual socket, also that of "
        "a rootless engine, see deployment.md.",
    )
    docker_tls_verify: str | None = Field(
        None, description="`1`: use TLS to the engine, and verify its certificate."
    )
    docker_cert_path: str | None = Field(
        None, description="Folder of `ca.pem`, `cert.pem` and `key.pem` for that; unset means `~/.docker`."
    )
    xdg_runtime_dir: Path | None = Field(None, description="Folder of a rootless engine's socket.")
    kernel_address: str | None = Field(
        None,
        pattern=_HOST_NAME,
        description="IPv4 address, or name, of the engine's machine at which kernels' ports are published "
        "and reached; unset means that the service finds it out.",
    )
    kernel_publish_address: str | None = Field(
        None,
        pattern=_HOST_NAME,
        description="Address at which the engine publishes kernels' ports, such as `0.0.0.0`, where it is "
        "not the one at which the service reaches them.",
    )
    kernel_encryption: Annotated[Literal["auto", "always", "never"], Lower] = Field(
        "auto",
        description="TLS between the service and its kernels. `auto`: where they talk over a network (pods, "
        "an engine on another machine); `always`; `never`: for a network that encrypts itself. A change "
        "ends the sessions.",
    )

    @model_validator(mode="after")
    def _published_where_reached(self) -> Self:
        if self.kernel_publish_address is not None and self.kernel_address is None:
            raise ValueError(
                "KERNEL_PUBLISH_ADDRESS needs KERNEL_ADDRESS, where the service reaches those ports"
            )
        return self
