"""Errors of `service.replicas`."""

from service.errors import StartError
from sessions.errors import CallFailed


class ReplicaLost(CallFailed):
    """The replica that has the session died, or stood still, after a call was passed on to it."""

    def __init__(self, session_id: str | None = None) -> None:
        super().__init__(
            "The replica that has the session was lost during the call: another takes the session over soon, "
            "and its cells tell whether the code has run"
        )
        self.session_id = session_id


class InstanceInUse(StartError):
    """Another replica has this instance id, and would have its containers removed by this one."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"Another replica runs as INSTANCE_ID={instance_id}; stop it, or give this one a name of its own."
        )
        self.instance_id = instance_id
