"""Statements run in a database as another program may run them, and those of our writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.transaction import Prepared


def run_sql(settings: Settings, statement: str, **values: Any) -> list[Any]:
    """Run one statement in the database of `settings`, in a transaction; return its rows."""
    if settings.database_path is None:
        import psycopg  # noqa: PLC0415 - where there is no server, it may be missing, too

        address, connect = "postgresql+psycopg://", lambda: psycopg.connect(settings.database_url)
        options = {}
    else:
        address, connect = "sqlite://", lambda: sqlite.connect(settings.database_path)
        options = {"module": sqlite}
    engine = sa.create_engine(address, creator=connect, poolclass=sa.NullPool, **options)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement), values)
        return list(result.all()) if result.returns_rows else []


@contextmanager
def before_statements(call: Callable[[str], None]) -> Iterator[None]:
    """Call `call` with the text of each statement of a write, before it runs."""
    run = Prepared.run

    def called(statement: Prepared, connection: sa.Connection, *rows: Any) -> list[Any]:
        if rows:
            call(statement.text(connection.dialect))
        return run(statement, connection, *rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "run", called)
        yield
