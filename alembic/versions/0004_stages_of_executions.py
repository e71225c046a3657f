"""Executions have a kind, the time of each stage, and the sizes of inputs and outputs.

Existing rows get the kind ``execute``, because it is unknown whether they ran in a session. Their times
and sizes were not measured, and stay null.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TIMES = ("queue_ms", "start_ms", "stage_ms", "run_ms", "gather_ms", "store_ms", "cpu_ms")
_SIZES = ("code_bytes", "display_bytes", "files_in_bytes", "files_out_bytes")


def upgrade() -> None:
    """Add the columns, and an index for the list of an owner's executions."""
    add = op.add_column
    add("executions", sa.Column("kind", sa.String(16), nullable=False, server_default="execute"))
    add("executions", sa.Column("session_id", sa.String(36), nullable=True))
    for name in _TIMES:
        add("executions", sa.Column(name, sa.Double(), nullable=True))
    for name in _SIZES:
        add("executions", sa.Column(name, sa.BigInteger(), nullable=True))
    add("executions", sa.Column("code", sa.Text(), nullable=True))
    op.drop_index("ix_executions_created_at", "executions")
    op.create_index(
        "ix_executions_owner_created_at_execution_id", "executions", ["owner", "created_at", "execution_id"]
    )
