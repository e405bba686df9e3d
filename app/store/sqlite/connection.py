"""Connections to SQLite: the library, the settings, and BEGIN.

One SQLite library per process. Python's `sqlite3` and `pysqlite3` are two copies of SQLite;
with both on one file, closing a connection of one drops the locks of the other and can delete
a live write-ahead log. Every module imports `sqlite` from here.

Stock SQLite below 3.44.6, 3.45 to 3.50.6 and 3.51.0 to 3.51.2 corrupts files under WAL in a
rare race (the WAL-reset bug, https://sqlite.org/wal.html#walresetbug). The wheel of pysqlite3
has a SQLite without it; where there is only an affected one, WAL is not used.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.store.backend import READ_TIMEOUT

try:
    from pysqlite3 import dbapi2 as sqlite
except ImportError:  # there are wheels for x86-64 Linux only
    import sqlite3 as sqlite

__all__ = ["create_engine", "journal_mode", "sqlite", "wait_for_others"]


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this version of SQLite may corrupt a file in WAL mode."""
    return (
        version < (3, 44, 6)
        or (3, 45, 0) <= version < (3, 50, 7)
        or (3, 51, 0) <= version < (3, 51, 3)
    )


def journal_mode() -> str:
    """Return the journal mode that is safe with this library: ``wal`` or ``truncate``."""
    return "truncate" if has_wal_reset_bug(sqlite.sqlite_version_info) else "wal"


def create_engine(path: Path, enter: Callable[[], None] = lambda: None) -> sa.Engine:
    """Return an engine for the existing database `path`; it connects when first used.

    Before each connection is made, it calls `enter`.

    Every connection commits durably. A transaction begins with BEGIN, and one with the
    execution option ``write_until``, the deadline of a writer (see ``WriterLock.held``), with
    BEGIN IMMEDIATE: to read first and write later inside a plain BEGIN fails at once when
    somebody else has written in between.
    """

    def connect() -> Any:
        enter()
        connection = sqlite.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # a missing file is not created
            uri=True,
            isolation_level=None,  # we send BEGIN and COMMIT
            check_same_thread=False,  # the pool gives it to one thread at a time
        )
        connection.execute("PRAGMA trusted_schema=OFF")  # our schema calls no function
        # With NORMAL, a power cut loses acknowledged writes.
        connection.execute("PRAGMA synchronous=FULL")
        if journal_mode() != "wal":  # only this mode is stored in the file
            connection.execute(f"PRAGMA journal_mode={journal_mode()}")
        return connection

    engine = sa.create_engine(
        "sqlite://",
        module=sqlite,
        creator=connect,
        paramstyle="named",  # as PostgreSQL's driver takes them, for `Prepared`
        poolclass=sa.QueuePool,
        max_overflow=-1,  # the server limits the threads
        hide_parameters=True,  # errors are logged
    )

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        deadline = connection.get_execution_options().get("write_until")
        if deadline is None:
            wait_for_others(connection, READ_TIMEOUT, "BEGIN")
        else:
            wait_for_others(connection, max(0.0, deadline - time.monotonic()), "BEGIN IMMEDIATE")

    return engine


def wait_for_others(connection: sa.Connection, seconds: float, then: str = "") -> None:
    """Set how long `connection` waits for locks that others hold; run the statement `then`."""
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")
    cursor.execute(then)
    cursor.close()
