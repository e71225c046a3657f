"""What an operator may set, read from the environment: the only module that reads it.

Each field's upper-cased name is its variable. An empty variable counts as unset. The table in
docs/settings.md is held against these fields by a test.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.auth.keyring import split_keys
from service.auth.limits import KeyLimits
from service.errors import SettingsInvalid

_MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_NOTHING = "none"
_HOST_NAME = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"

MIB = 1024 * 1024


def _split(value: object) -> object:
    """Turn ``"numpy, pandas"`` into ``("numpy", "pandas")``; ``"none"`` is the empty list."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() == _NOTHING:
        return ()
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _split_pairs(value: object) -> object:
    """Turn ``"pool=kernels, disk=ssd"`` into pairs."""
    names = _split(value)
    if names is value:
        return value
    pairs = tuple(tuple(name.split("=", 1)) for name in names) if isinstance(names, tuple) else ()
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("it has to be NAME=VALUE,NAME=VALUE")
    return pairs


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


LogFormat = Annotated[Literal["console", "json"], BeforeValidator(_lower)]


class Settings(BaseSettings):
    """All settings, checked. Raises ``pydantic.ValidationError``; see ``load_settings``."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="forbid")

    # The server
    host: str = Field("0.0.0.0", description="Address the server listens on.")
    port: int = Field(
        8000, ge=0, le=65535, description="TCP port the server listens on; `0` takes a free one."
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = Field("INFO", description="How much is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR`.")
    log_format: LogFormat = Field(
        "console", description="`console`: lines for people; `json`: an object a line, see observability.md."
    )
    max_request_bytes: int = Field(
        4 * MIB, ge=1024, description="Largest body of a JSON request, in bytes; over it 413."
    )
    client_timeout_sec: float = Field(
        30,
        gt=0,
        allow_inf_nan=False,
        description="Seconds a client may keep a connection waiting: with half a request, or with an answer "
        "that it does not take.",
    )

    # API keys
    api_keys: SecretStr | None = Field(
        None,
        description="API keys, `NAME:KEY,NAME:KEY`. Without this and the next no key is needed, see keys.md.",
    )
    api_keys_file: Path | None = Field(
        None, description="File with hashes of API keys, made by `code-interpreter-keys add NAME`."
    )
    open_pages: Annotated[
        tuple[Literal["docs", "metrics", "page"], ...], NoDecode, BeforeValidator(_split)
    ] = Field(
        ("docs", "metrics", "page"),
        description="What is shown without a key, `none` for nothing: the rest needs one, and is not there "
        "where no keys are set.",
    )
    key_requests_per_minute: int = Field(
        600,
        ge=0,
        description="Requests a minute of one key; over it 429. `0` for no limit, as in the next three.",
    )
    key_max_executions: int = Field(
        8, ge=0, description="Executions of one key that run or wait at once; over it 429."
    )
    key_max_sessions: int = Field(4, ge=0, description="Sessions of one key open at once; over it 429.")
    key_storage_mb: int = Field(
        1024, ge=0, description="Stored files of one key, all together, in MiB; over it 507."
    )

    # One execution
    max_exec_timeout_ms: int = Field(
        10_000, ge=1, description="Largest `timeout_ms` a caller may ask for, in milliseconds."
    )
    cpu_time_limit_sec: int = Field(5, ge=1, description="CPU time one execution may use, in seconds.")
    memory_limit_mb: int = Field(
        128,
        ge=16,
        description="Memory for the user's code, in MiB; the idle kernel's own comes on top.",
    )
    max_output_bytes: int = Field(
        MIB, ge=1, description="Largest `stdout`, and largest `stderr`, in bytes; cut beyond."
    )
    max_display_bytes: int = Field(
        10 * MIB, ge=1, description="Rich outputs of one execution, all together, in bytes."
    )
    max_output_files: int = Field(
        256, ge=0, description="Most files one execution may hand back; the rest are skipped."
    )

    keep_code: bool = Field(
        False, description="`1`: `GET /v1/executions/{id}` also has the code, which is kept for 30 days."
    )

    # Traces
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over HTTP) that traces are sent to; unset means "
        "none. The other `OTEL_*` variables mean what they mean elsewhere, see observability.md.",
    )
    otel_exporter_otlp_traces_endpoint: str | None = Field(
        None, description="The same, the whole URL for traces with its path."
    )
    otel_sdk_disabled: bool = Field(False, description="`true`: no traces, whatever else is set.")

    # A cell of a notebook, over the Jupyter gateway
    jupyter_timeout_sec: int = Field(
        3600,
        ge=1,
        description="Longest run of a notebook's cell over the Jupyter gateway, in seconds; "
        "`MAX_EXEC_TIMEOUT_MS` is for the other calls.",
    )
    jupyter_cpu_time_limit_sec: int = Field(
        600, ge=1, description="CPU time such a cell may use, in seconds, in place of `CPU_TIME_LIMIT_SEC`."
    )

    # Files
    max_file_size_mb: int = Field(10, ge=1, description="Largest file, up or down, in MiB.")
    file_storage_dir: Path = Field(
        Path("/tmp/code-interpreter-files"),
        description="Folder of the stored files and, by default, of the registry.",
    )
    file_storage_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?$",
        description="`s3://bucket/prefix` for stored files in an object storage, see scale.md; unset means "
        "`FILE_STORAGE_DIR`.",
    )
    aws_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="URL of an S3 server that is not Amazon's. The other `AWS_*` variables, for credentials "
        "and region, mean what they mean elsewhere.",
    )
    file_storage_link_sec: int = Field(
        0,
        ge=0,
        le=604_800,
        description="Seconds for which a download from the object storage is a redirect to it, by a signed "
        "link; `0`: the service passes the bytes on.",
    )
    file_ttl_sec: int = Field(
        3600, ge=0, description="Seconds until a stored file expires; `0` keeps it for good."
    )
    database_url: str | None = Field(
        None,
        description="URL of the registry, `sqlite:///…` or `postgresql://…`, see scale.md; unset means "
        "`registry.sqlite3` in `FILE_STORAGE_DIR`.",
    )

    # Replicas
    replica_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="URL at which other services on the same database reach this one; all that share it set "
        "their own, see scale.md. Needs PostgreSQL and `FILE_STORAGE_URL`.",
    )
    replica_secret: SecretStr | None = Field(
        None, min_length=16, description="What all of them know, and sign calls to each other with."
    )
    replica_lease_sec: float = Field(
        10,
        ge=1,
        le=300,
        allow_inf_nan=False,
        description="Seconds after which the sessions of a service that does not answer are taken by others.",
    )

    # The engine
    executor_backend: Annotated[Literal["docker", "kubernetes"], BeforeValidator(_lower)] = Field(
        "docker",
        description="What runs the kernels: containers of a Docker engine, or pods of a cluster, see "
        "kubernetes.md.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="How the cluster is reached; unset means as the pod that the service is, or else "
        "`~/.kube/config`.",
    )
    kubernetes_namespace: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Namespace of the kernels' pods; unset means the service's own, or the kubeconfig's.",
    )
    kubernetes_node_selector: Annotated[
        tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_split_pairs)
    ] = Field((), description="Labels that a kernel's node has to have, `NAME=VALUE,NAME=VALUE`.")
    kubernetes_start_timeout_sec: float = Field(
        180,
        gt=0,
        allow_inf_nan=False,
        description="Longest start of a pod, in seconds: with an image to pull, or a node to be added.",
    )
    docker_host: str | None = Field(
        None,
        description="URL of the engine, `unix://…` or `tcp://…`; unset means the socket where engines have "
        "theirs, a rootless one included, see deployment.md.",
    )
    docker_tls_verify: str | None = Field(
        None, description="`1`: speak TLS with the engine, and check who it is."
    )
    docker_cert_path: str | None = Field(
        None, description="Folder of `ca.pem`, `cert.pem` and `key.pem` for that; unset means `~/.docker`."
    )
    xdg_runtime_dir: Path | None = Field(None, description="Where a rootless engine has its socket.")
    kernel_address: str | None = Field(
        None,
        pattern=_HOST_NAME,
        description="IPv4 address, or name, of the engine's machine at which kernels' ports are published "
        "and reached; unset means that it is found out.",
    )
    kernel_publish_address: str | None = Field(
        None,
        pattern=_HOST_NAME,
        description="Where they are published, if that machine knows itself by another address than that, "
        "such as `0.0.0.0`.",
    )

    kernel_encryption: Annotated[Literal["auto", "always", "never"], BeforeValidator(_lower)] = Field(
        "auto",
        description="TLS between the service and its kernels: where the way is a network (pods, an engine on "
        "another machine), `always`, or `never`, for a network that encrypts by itself. Sessions end when it "
        "is changed.",
    )

    # Containers
    python_executor_docker_image: str = Field(
        "code-interpreter-kernel:latest", description="Image the kernels run in."
    )
    image_pull: Literal["missing", "always", "never"] = Field(
        "missing",
        description="When an image whose name has a `/` in it is pulled: where it is missing, also at every "
        "start, or never. Others are made here and never pulled.",
    )
    pool_size: int = Field(
        2,
        ge=0,
        description="Kernels kept ready, waiting for work; for a number that varies see the next two.",
    )
    pool_min: int | None = Field(
        None, ge=0, description="Fewest kernels kept ready; unset means `POOL_SIZE`."
    )
    pool_max: int | None = Field(
        None,
        ge=0,
        description="Most kernels kept ready: from `POOL_MIN` up to this their number follows what was asked "
        "for in the last ten seconds; unset means `POOL_SIZE`.",
    )
    max_containers: int = Field(16, ge=1, description="Most containers at once, those of the pool included.")
    queue_size: int = Field(64, ge=0, description="Callers that may wait for a kernel; over it 503 at once.")
    queue_timeout_sec: float = Field(
        30, gt=0, allow_inf_nan=False, description="Longest wait for a kernel, in seconds."
    )
    workspace_size_mb: int = Field(128, ge=1, description="Size of `/workspace`, in MiB.")
    tmp_size_mb: int = Field(64, ge=1, description="Size of `/tmp`, in MiB.")
    pids_limit: int = Field(
        256, ge=32, description="Most processes and threads in one container, ours included."
    )
    kernel_cpus: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="CPUs one container may use; `0.5` is half."
    )
    kernel_preload: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("numpy", "pandas", "matplotlib.pyplot"),
        description="Modules a ready kernel has imported already, comma separated; `none` for none.",
    )
    kernel_runtime: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="OCI runtime the containers run under, one that the engine knows, such as `runsc`; the "
        "RuntimeClass of pods; unset means the default, see security.md.",
    )
    container_reuse: Literal["never", "tenant"] = Field(
        "never",
        description="`tenant`: after a call that ended well a container is made as new and serves the same "
        "API key again, see reuse.md.",
    )
    container_max_uses: int = Field(
        1000, ge=1, description="Calls after which a container is destroyed all the same."
    )
    container_max_age_sec: int = Field(
        3600, ge=1, description="Seconds after which a container is not used again."
    )
    lease_sec: int = Field(
        60,
        ge=2,
        description="Seconds after which a container that lost its service removes itself.",
    )
    instance_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Name that marks this service's containers; unset means one made at the "
        "first start and kept in the registry.",
    )

    # Sessions
    max_sessions: int = Field(8, ge=0, description="Most sessions open at once; over it 429.")
    session_idle_sec: int = Field(
        0, ge=0, description="Seconds without a call after which a session ends; `0` for no such limit."
    )
    session_lease_sec: int = Field(
        600,
        ge=2,
        description="Seconds after which the container of a session that lost its service removes itself.",
    )
    session_queue_size: int = Field(
        8, ge=0, description="Calls that may wait for their turn in one session; over it 409 at once."
    )
    session_queue_timeout_sec: float = Field(
        30, gt=0, allow_inf_nan=False, description="Longest wait for a turn in a session, in seconds."
    )

    mcp_session_sec: int = Field(
        1800,
        ge=1,
        le=86_400,
        description="Seconds without a call after which the session of a conversation over MCP ends.",
    )

    @field_validator("kernel_preload")
    @classmethod
    def _are_modules(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _MODULE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a module")
        return names

    @field_validator("file_storage_dir", "api_keys_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            split_keys(keys.get_secret_value())
        return keys

    @model_validator(mode="after")
    def _pool_fits(self) -> Self:
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

    @model_validator(mode="after")
    def _replicas_share(self) -> Self:
        if self.replica_url is not None:
            missing = [
                name
                for name, is_there in (
                    ("DATABASE_URL of a PostgreSQL", (self.database_url or "").startswith("postgres")),
                    ("FILE_STORAGE_URL", self.file_storage_url is not None),
                    ("REPLICA_SECRET", self.replica_secret is not None),
                )
                if not is_there
            ]
            if missing:
                raise ValueError(f"REPLICA_URL needs {' and '.join(missing)}, the same for all")
        return self

    @model_validator(mode="after")
    def _published_where_dialled(self) -> Self:
        if self.kernel_publish_address is not None and self.kernel_address is None:
            raise ValueError(
                "KERNEL_PUBLISH_ADDRESS needs KERNEL_ADDRESS, where the service reaches those ports"
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

    @property
    def traces(self) -> bool:
        """Whether traces are to be sent."""
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return endpoint is not None and not self.otel_sdk_disabled

    @property
    def needs_key(self) -> bool:
        """Whether callers need an API key."""
        return self.api_keys is not None or self.api_keys_file is not None

    @property
    def given_keys(self) -> dict[str, str]:
        """The keys of ``api_keys`` by name."""
        return {} if self.api_keys is None else dict(split_keys(self.api_keys.get_secret_value()))

    @property
    def key_limits(self) -> KeyLimits:
        """What each key may use. Where no key is needed there are no such limits."""
        if not self.needs_key:
            return KeyLimits()
        return KeyLimits(
            requests_per_minute=self.key_requests_per_minute,
            executions=self.key_max_executions,
            sessions=self.key_max_sessions,
            storage_bytes=self.key_storage_mb * MIB,
        )

    @property
    def max_file_bytes(self) -> int:
        """``max_file_size_mb`` in bytes."""
        return self.max_file_size_mb * MIB

    @property
    def registry_place(self) -> str:
        """Where the registry is, without a user or a password."""
        return _without_password(self.registry_url).partition("?")[0]

    @property
    def registry_url(self) -> str:
        """The registry's SQLAlchemy URL, the default one included."""
        return self.database_url or f"sqlite:///{self.file_storage_dir / 'registry.sqlite3'}"


class _LogSettings(BaseSettings):
    """What has to be known to say what is wrong with the others."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    log_format: LogFormat = "console"


def load_log_format() -> LogFormat:
    """How to log where the settings make no sense."""
    try:
        return _LogSettings().log_format
    except ValidationError:
        return "console"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsInvalid: with one sentence for each bad variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsInvalid(tuple(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    """Say one of pydantic's errors in the operator's words."""
    message: str = problem["msg"].partition(", unable to parse")[0]
    if problem["type"] == "value_error":
        variable = f"{problem['loc'][0]}: ".upper() if problem["loc"] else ""
        return f"{variable}{message.removeprefix('Value error, ')}."
    message = re.sub("^(Input|String|Value) | items after validation", "", message)
    name = str(problem["loc"][0])
    if name in _SECRETS:
        return f"{name.upper()} {message}."
    return f"{name.upper()} {message}, but it is {_without_password(repr(problem['input']))}."


_SECRETS: Final = ("api_keys", "replica_secret")


def _without_password(text: str) -> str:
    """Text in which a URL may be, without its user and password."""
    return re.sub(r"//[^/]*@", "//", text)
