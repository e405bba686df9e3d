"""Opening the database: it is made, checked and upgraded here, before it is read or written.

What reads and writes imports this module, and is not imported here.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.backend import OPEN_TIMEOUT, Backend
from app.store.first_key import add_first_key
from app.store.schema import HEAD, check_program, schema_number, upgrade
from app.store.sqlite.backend import SQLite
from app.store.transaction import has_keys, transaction, write_connection

#: How often the identity of the database is checked, in seconds.
CHECK_INTERVAL = 1.0
#: After so many slow answers in a row the database is slow.
_SLOW = 20
#: The actor of a server's start, for the log.
START = Actor("start")


@dataclass(slots=True)
class RevisionConnection:
    """A thread's connection for reading the revision, and the row that it last returned."""

    connection: sa.Connection
    cursor: Any
    #: Process, identity of the database, and number of timeouts, when the connection was made.
    made_in: tuple[int, Hashable, int]
    row: tuple[Any, ...] = (-1, "")


class Pace:
    """Lets other requests go on before the database is asked, while it is slow to answer.

    That takes about as long as a fast answer. So `_SLOW` answers in a row that took more than
    `fast` seconds are needed, and it is done for a second: then the next answers show whether the
    database is still slow.
    """

    def __init__(self, opening: "Opening", fast: float) -> None:
        self._opening = opening
        self._fast = fast
        self._slow, self._slow_until = 0, 0.0

    def before(self) -> float:
        """Let others go on if the database is slow; return the time, for `after`."""
        now = self._opening.monotonic()
        if now < self._slow_until:
            self._opening.before_waiting()
        return now

    def after(self, began: float) -> None:
        """Note an answer to what began at a time of `before`."""
        now = self._opening.monotonic()
        self._slow = self._slow + 1 if now - began > self._fast else 0
        if self._slow == _SLOW:
            self._slow, self._slow_until = 0, now + CHECK_INTERVAL


class Opening:
    """The database of `settings`, as this process has it open.

    `clock` returns Unix seconds, `monotonic` seconds that never go back.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._opened: Hashable | None = None
        self._pid = 0
        self._threads = threading.local()
        self._timeouts = 0
        #: The identity that was last read, and until when it need not be read again.
        self.identity: Hashable | None = None
        self.checked_until = 0.0
        #: Called in a thread that is about to wait for the database.
        self.call_before_waiting: Callable[[], None] = lambda: None

    @cached_property
    def backend(self) -> Backend:
        """SQLite or PostgreSQL; nothing is opened."""
        path = self._settings.database_path
        if path is not None:
            return SQLite(path, self.before_waiting)
        try:
            from app.store.postgresql import PostgreSQL  # noqa: PLC0415 - psycopg is an extra
        except ImportError as error:
            raise StoreRefused(
                f"PostgreSQL needs psycopg, which cannot be used here ({error}): "
                "pip install 'psycopg[binary]'"
            ) from error
        return PostgreSQL(str(self._settings.database_url))

    def before_waiting(self) -> None:
        """Let other requests go on: this thread is about to wait for the database."""
        self.call_before_waiting()

    def open(self, *, create: bool = False) -> Hashable:
        """Prepare the database for this process, unless that was done; return its identity.

        An older schema is upgraded. A missing database is an outage, and never an empty
        catalogue, unless it is to be created: then it gets our schema and the first admin key.
        Any number of processes may do so at once. Raises `StoreUnavailable`, among others for a
        newer schema and a malformed key file.
        """
        if self._opened is not None and self._opened == self._read_identity():
            return self._opened
        with self._lock, self.outages():
            identity = self._read_identity()
            if self._opened is not None:
                if identity == self._opened:
                    return identity
                # After a fork the connections are the parent's, and not ours to close.
                self.backend.reading.dispose(close=self._pid == os.getpid())
            if create and identity is not None:
                self.backend.check()
            if self._is_unprepared(create=create):
                # Other users of the host may not read entries that are hidden from some viewers.
                self._settings.instance_path.mkdir(mode=0o750, parents=True, exist_ok=True)
                deadline = time.monotonic() + OPEN_TIMEOUT
                with self.backend.preparing(deadline):
                    self._prepare(deadline)
            self._opened = self._read_identity()
            self._pid = os.getpid()
            # A database server that does not answer would delay the exit.
            if self._settings.database_path is not None:
                atexit.unregister(self.close)  # of a parent, or when another file was open
                atexit.register(self.close)
            return self._opened

    def close(self) -> None:
        """Close this process's connections, except those that other threads use.

        A SQLite file is also closed at the exit of the process.
        """
        atexit.unregister(self.close)
        # Otherwise nothing is open here, or the connections are the parent's after a fork.
        if "backend" in vars(self) and self._pid in (0, os.getpid()):
            self._threads.revision = None
            self.backend.close()
        self._opened, self._pid, self.identity, self.checked_until = None, 0, None, 0.0

    def schema(self) -> int | None:
        """Return the schema of the database, None when there is none; change nothing."""
        if self.backend.identity() is None:
            return None
        with self.reading() as connection:
            return schema_number(connection)

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Raise `StoreUnavailable` for errors about the state of the database or the disk."""
        try:
            yield
        except Exception as error:
            if not self.backend.is_outage(error):
                raise
            raise StoreUnavailable(self.backend.reason(error)) from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection whose statements see one state. Call `open` first."""
        with self.outages(), self.backend.reading.connect() as connection:
            try:
                yield connection
            except StoreUnavailable:
                # A read that was not finished has a cursor. When Python frees it, pysqlite resets
                # the statement, which the next read of this connection may be in.
                connection.invalidate()
                raise

    def revision_connection(self) -> RevisionConnection | None:
        """Return this thread's connection to the database as it is now, None if it has none."""
        if self.monotonic() >= self.checked_until:
            self._read_identity()
        found: RevisionConnection | None = getattr(self._threads, "revision", None)
        state = os.getpid(), self.identity, self._timeouts
        return found if found is not None and found.made_in == state else None

    def connect_for_revision(self) -> RevisionConnection:
        """Open the database if need be, and return a new connection for this thread."""
        identity = self.open()
        self._threads.revision = None  # returns to the pool before another one is taken
        connection = self.backend.revision_connection()
        cursor = connection.connection.cursor()
        state = os.getpid(), identity, self._timeouts
        self._threads.revision = found = RevisionConnection(connection, cursor, state)
        return found

    def discard_revision_connection(self, error: Exception) -> None:
        """Close this thread's connection after `error`.

        Raises `StoreUnavailable` after a timeout: a new connection would wait as long, and so
        would those of other threads, which are not used any more.
        """
        found, self._threads.revision = self._threads.revision, None
        found.connection.invalidate()
        self.backend.distrust()
        if self.backend.is_busy(error):
            self._timeouts += 1
            raise StoreUnavailable(self.backend.reason(error)) from error

    def _read_identity(self) -> Hashable | None:
        """Read and return the identity of the database, None while there is none.

        It is stored for all threads.
        """
        try:
            identity = self.identity = self.backend.identity()
        except StoreUnavailable:
            self.identity, self.checked_until = None, 0.0
            raise
        self.checked_until = 0.0 if identity is None else self.monotonic() + CHECK_INTERVAL
        return identity

    def _is_unprepared(self, *, create: bool) -> bool:
        number = self.schema()
        if number is None and not create:
            name = self._settings.database_name
            if self._opened is not None:
                raise StoreUnavailable(f"The database {name} is gone: put it back.")
            raise StoreUnavailable(
                f"There is no database {name}: a server's start and 'flask db upgrade' make one."
            )
        if number is None or number < HEAD:
            return True
        with self.backend.reading.connect() as connection:
            if number > HEAD:
                check_program(connection, number)
            return not self.backend.is_prepared(connection) or not has_keys(connection)

    def _prepare(self, deadline: float) -> None:
        self.backend.prepare(self.schema())
        with write_connection(self.backend, deadline) as connection:
            upgrade(connection)
        now = int(self._clock())
        with transaction(self.backend, deadline, actor=START, now=now) as first:
            if not has_keys(first.connection):
                add_first_key(first, self._settings, now)
