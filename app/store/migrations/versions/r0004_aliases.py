"""Which entry has an alias."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
# Older programs leave the aliases of an entry as they are, and rows of entries that they remove.
oldest_schema = 1


def upgrade() -> None:
    """Make the table; it is filled after every upgrade."""
    # pg_restore puts a backup of an older schema beside tables that the backup does not have.
    op.drop_table("aliases", if_exists=True)
    op.create_table(
        "aliases",
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
