"""The size of each cell, for the limit on an owner's history, and what that limit removed.

In existing rows nothing was removed, and the sizes are those of the stored text.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns and compute the sizes."""
    op.add_column("cells", sa.Column("code_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("result_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("cells", sa.Column("removed", sa.String(16), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        size = "octet_length({}::text)"
    else:
        size = "length(CAST({} AS BLOB))"
    code, result = size.format("code"), size.format("result")
    op.execute(f"UPDATE cells SET code_bytes = {code}, result_bytes = coalesce({result}, 0)")
