"""A whole catalogue from one database to another: entries, keys, history and sources."""

from dataclasses import dataclass

import sqlalchemy as sa

from app.catalog.errors import StoreRefused
from app.store.aliases import index_aliases
from app.store.tables import catalogue, changes, keys, models, sources

#: How many rows are in memory at a time.
_BATCH = 1000
#: The tables that are copied as they are.
_TABLES = (models, keys, changes, sources)
#: What the row of the catalogue says of them.
_STATE = (catalogue.c.revision, catalogue.c.mark, catalogue.c.pruned)


@dataclass(frozen=True, slots=True)
class Contents:
    """How much a database holds."""

    revision: int
    entries: int
    keys: int
    changes: int


def copy(source: sa.Connection, target: sa.Connection) -> Contents:
    """Copy what `source` sees into the empty `target`, inside its open transaction.

    The tables of both have our schema. Afterwards both are in the same state. Raises
    `StoreRefused` if the target is not empty, and if its contents differ from the source's in the
    end.
    """
    if any(count(target, table) for table in _TABLES):
        raise StoreRefused("The database to copy to is not empty: nothing was copied.")
    state = source.execute(sa.select(*_STATE)).mappings().one()
    for table in _TABLES:
        rows = source.execution_options(yield_per=_BATCH).execute(sa.select(table))
        for batch in rows.mappings().partitions():
            target.execute(sa.insert(table), [dict(row) for row in batch])
    index_aliases(target)
    target.execute(sa.update(catalogue).values(**state))
    there, here = contents(source), contents(target)
    if there != here:
        raise StoreRefused(f"The copy has {here} where there is {there}: nothing was copied.")
    return here


def contents(connection: sa.Connection) -> Contents:
    """Return how much is in the database, as the open transaction sees it."""
    revision = connection.execute(sa.select(catalogue.c.revision)).scalar_one()
    return Contents(revision, *(count(connection, table) for table in (models, keys, changes)))


def count(connection: sa.Connection, table: sa.Table) -> int:
    """Return how many rows `table` has."""
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
