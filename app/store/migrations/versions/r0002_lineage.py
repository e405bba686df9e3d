"""Which history a revision belongs to, and which older programs may stay."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
# A program of schema 1 writes the same rows, and neither reads nor spoils the new columns.
oldest_schema = 1


def upgrade() -> None:
    """Add the two columns to the one row; what they hold is set after every upgrade."""
    op.add_column("catalogue", sa.Column("lineage", sa.Text, nullable=False, server_default=""))
    op.add_column(
        "catalogue", sa.Column("oldest_schema", sa.Integer, nullable=False, server_default="1")
    )
