"""Which change is which, whatever its number; which changes and which request belong together."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
# Programs of schemas 1 and 2 write lines without a mark, behind which others load everything.
oldest_schema = 1


def upgrade() -> None:
    """Add the mark of the last change, and columns for mark, batch and request id to the log."""
    op.add_column("catalogue", sa.Column("mark", sa.Text, nullable=False, server_default=""))
    op.add_column("changes", sa.Column("mark", sa.Text))
    op.add_column("changes", sa.Column("batch", sa.BigInteger))
    op.add_column("changes", sa.Column("request_id", sa.Text))
