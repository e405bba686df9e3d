"""How the imports from each source last ended."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
# Older programs import nothing.
oldest_schema = 1


def upgrade() -> None:
    """Make the table."""
    # pg_restore puts a backup of an older schema beside tables that the backup does not have.
    op.drop_table("sources", if_exists=True)
    op.create_table(
        "sources",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("format", sa.Text),
        sa.Column("last_good", sa.Text),
        sa.Column("last_failed", sa.Text),
    )
