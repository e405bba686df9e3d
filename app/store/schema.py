"""The schema of a database: its number, and its upgrade.

Alembic makes the changes. It takes 60 ms to import, so it is imported only if the number in the
database is below `HEAD`.
"""

import logging
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, quote
from app.store.aliases import index_aliases
from app.store.tables import catalogue

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_log = logging.getLogger(__name__)

#: The number of the newest revision in ``migrations/versions``; a test holds the two equal.
HEAD = 6

#: Returns a random text that marks one state of one database: see `app.catalog.ports`.
new_mark = partial(secrets.token_hex, 8)

_MIGRATIONS = Path(__file__).parent / "migrations"


def schema_number(connection: sa.Connection) -> int | None:
    """Return the schema of the database, None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    stamp = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or ""
    if not stamp.isdecimal():
        raise StoreRefused(f"The database is another program's: its schema is '{quote(stamp)}'.")
    return int(stamp)


def check_program(connection: sa.Connection, number: int) -> None:
    """Refuse a database of a newer `number` unless it lets this program run beside newer ones."""
    try:
        oldest = connection.execute(sa.select(catalogue.c.oldest_schema)).scalar_one()
    except (sa.exc.DBAPIError, sa.exc.NoResultFound):  # of a schema that has no such column
        oldest = number
    if oldest > HEAD:
        raise newer_schema(number)
    _log.warning(
        "The database has schema %d, this program has %d: it goes on beside the newer program.",
        number,
        HEAD,
    )


def newer_schema(number: int) -> StoreRefused:
    """Return the error for a database that asks for programs of a newer schema than `HEAD`."""
    return StoreRefused(
        f"The database has schema {number}, this program knows schemas up to {HEAD}: run the "
        "newer program, or put back a backup from before its upgrade."
    )


def upgrade(connection: sa.Connection) -> None:
    """Bring the database to `HEAD`, inside the transaction that `connection` is in."""
    number = schema_number(connection) or 0
    if number >= HEAD:
        return  # another process was here first
    made = migrate(connection, HEAD).walk_revisions()
    oldest = max(s.module.oldest_schema for s in made if int(s.revision) > number)
    newer = sa.case((catalogue.c.oldest_schema < oldest, oldest), else_=catalogue.c.oldest_schema)
    connection.execute(sa.update(catalogue).values(oldest_schema=newer))
    index_aliases(connection)
    begin_history(connection)


def migrate(connection: sa.Connection, number: int) -> "ScriptDirectory":
    """Run the migrations up to the schema `number`, and return all that there are."""
    from alembic import command  # noqa: PLC0415 - imported only when there is work for it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, f"{number:04}")
    return ScriptDirectory.from_config(config)


def begin_history(connection: sa.Connection) -> None:
    """Give the database a new mark and lineage, so that all workers load it again.

    No line of the log has this mark, so they load it once more at the next change. The lineage
    begins with our schema: see `app.store.sqlite.wal`.
    """
    mark = new_mark()
    connection.execute(sa.update(catalogue).values(mark=mark, lineage=f"{HEAD}-{mark}"))
