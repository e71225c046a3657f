"""Settings of several services that share a registry."""

from pydantic import Field, SecretStr

from service.settings.values import Group


class ReplicaSettings(Group):
    """How the replicas reach and trust each other."""

    replica_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="URL at which the other replicas reach this one. Each service that shares the database "
        "sets its own, see scale.md. Needs PostgreSQL and `FILE_STORAGE_URL`.",
    )
    replica_secret: SecretStr | None = Field(
        None, min_length=16, description="Secret that all replicas share and sign calls to each other with."
    )
    replica_lease_sec: float = Field(
        10,
        ge=1,
        le=300,
        allow_inf_nan=False,
        description="Seconds after which other replicas take over the sessions of one that does not answer.",
    )

    @property
    def is_replica(self) -> bool:
        """Whether other services share the registry."""
        return self.replica_url is not None
