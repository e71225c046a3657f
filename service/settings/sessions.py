"""Settings of sessions: how many there may be, and how long they live."""

from pydantic import Field

from service.settings.values import Group


class SessionSettings(Group):
    """The limits of sessions, and of those that MCP conversations open."""

    max_sessions: int = Field(8, ge=0, description="Most sessions open at the same time; more get 429.")
    session_idle_sec: int = Field(
        0, ge=0, description="Seconds without a call after which a session ends; `0` means no such limit."
    )
    session_lease_sec: int = Field(
        600,
        ge=2,
        description="Seconds after which a session's container that lost its service removes itself.",
    )
    session_queue_size: int = Field(
        8, ge=0, description="Calls that may wait for one session; further calls get 409 at once."
    )
    session_queue_timeout_sec: float = Field(
        30, gt=0, allow_inf_nan=False, description="Longest wait for a session, in seconds."
    )
    mcp_session_sec: int = Field(
        1800,
        ge=1,
        le=86_400,
        description="Seconds without a call after which the session of an MCP conversation ends.",
    )
