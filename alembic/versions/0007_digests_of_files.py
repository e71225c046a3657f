"""Files have a digest of their first and last block, by which a large file is checked before it is served.

In existing rows it is null. It is added when such a file is first opened.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("files", sa.Column("ends_sha256", sa.String(64), nullable=True))
