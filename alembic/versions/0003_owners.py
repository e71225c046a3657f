"""Files, executions and sessions have an owner: the name of an API key.

The owner of existing rows is ``default``. That is every caller while no keys are set, and otherwise the
key with that name.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Add the column, and an index for the list of an owner's files."""
    for table in ("files", "executions", "sessions"):
        op.add_column(table, sa.Column("owner", sa.String(64), nullable=False, server_default="default"))
    op.drop_index("ix_files_created_at_file_id", "files")
    op.create_index("ix_files_owner_created_at_file_id", "files", ["owner", "created_at", "file_id"])
