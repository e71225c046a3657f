"""Replicas, the replica that holds a session, and the engine of a container.

In existing rows holder and engine are null: the sessions and containers belong to the service that made them.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Add the table and the columns, and an index of live sessions by holder."""
    op.create_table(
        "replicas",
        sa.Column("replica_id", sa.String(32), nullable=False),
        sa.Column("instance_id", sa.String(63), nullable=False),
        sa.Column("engine_id", sa.String(128), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("replica_id", name="pk_replicas"),
    )
    op.add_column("sessions", sa.Column("holder", sa.String(32), nullable=True))
    op.add_column("sessions", sa.Column("free_since", sa.Double(), nullable=True))
    op.create_index("ix_sessions_ended_at_holder", "sessions", ["ended_at", "holder"])
    op.add_column("containers", sa.Column("engine_id", sa.String(128), nullable=True))
