"""Which schema a database has, and how it gets ours.

Alembic makes the changes but costs 60 ms to import; whether there is anything to do is told
without it, by comparing the stamp in the database with `HEAD`.
"""

from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, quote

#: The number of the newest revision in ``migrations/versions``; a test holds the two equal.
HEAD = 1

_MIGRATIONS = Path(__file__).parent / "migrations"


def schema_number(connection: sa.Connection) -> int | None:
    """Return the schema of the database, None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    stamp = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or ""
    if not stamp.isdecimal():
        raise StoreRefused(f"The database is another program's: its schema is '{quote(stamp)}'.")
    return int(stamp)


def needs_upgrade(number: int | None) -> bool:
    """Tell whether schema `number` is behind ours; `StoreRefused` when it is ahead."""
    if number is not None and number > HEAD:
        raise StoreRefused(
            f"The database has schema {number}, this program knows schemas up to {HEAD}: "
            "run the newer program, or put back a backup from before its upgrade."
        )
    return number != HEAD


def upgrade(connection: sa.Connection) -> None:
    """Bring the database to `HEAD`, inside the transaction that `connection` is in."""
    from alembic import command  # noqa: PLC0415 - imported only when there is work for it
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
