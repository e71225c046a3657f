"""Indexes that find an owner's live sessions, expired sessions and old rows in large tables."""

from collections.abc import Sequence

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Create the indexes."""
    op.create_index("ix_sessions_owner_ended_at", "sessions", ["owner", "ended_at"])
    op.create_index("ix_sessions_ended_at_expires_at", "sessions", ["ended_at", "expires_at"])
    op.create_index("ix_executions_finished_at", "executions", ["finished_at"])
    op.create_index("ix_containers_removed_at", "containers", ["removed_at"])
