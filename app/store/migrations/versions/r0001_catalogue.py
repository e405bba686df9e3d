"""The first schema: entries, keys, the revision and the log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
oldest_schema = 1


def upgrade() -> None:
    """Make the tables, and the one row of the catalogue."""
    catalogue = op.create_table(
        "catalogue",
        sa.Column(
            "only",
            sa.Integer,
            sa.CheckConstraint('"only" = 1'),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text),
        sa.Column("kid", sa.Text),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("changes_by_model", "changes", ["model_id", "revision"])
    op.bulk_insert(catalogue, [{"only": 1, "revision": 0}])
