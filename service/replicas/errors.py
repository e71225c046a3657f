"""Errors of `service.replicas`."""

from service.errors import StartError
from sessions.errors import CallFailed


class ReplicaLost(CallFailed):
    """The replica that holds the session died or hung after a call was forwarded to it."""

    def __init__(self, session_id: str | None = None) -> None:
        super().__init__(
            "The replica that holds the session was lost during the call. Another one takes the session over "
            "soon; the session's cells then show whether the code has run"
        )
        self.session_id = session_id


class InstanceInUse(StartError):
    """Another replica has this instance id, so this one would remove its containers."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"Another replica runs as INSTANCE_ID={instance_id}; stop it, or give this one a name of its own."
        )
        self.instance_id = instance_id
