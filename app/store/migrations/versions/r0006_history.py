"""Reading the log: by time and by author, and from which revision on it is complete."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
# Older programs write lines as before.
oldest_schema = 1


def upgrade() -> None:
    """Make the indexes and the column."""
    op.add_column(
        "catalogue", sa.Column("pruned", sa.BigInteger, nullable=False, server_default="0")
    )
    op.create_index("changes_by_time", "changes", ["at", "revision"])
    op.create_index("changes_by_actor", "changes", ["actor", "revision"])
