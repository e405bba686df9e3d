"""How the threads of a process learn where the store is, at every request."""

import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.ports import Position
from app.store.backend import Database
from app.store.sqlite.write_counter import WriteCounter, is_at_rest

#: How long the database is taken for the same without looking, in seconds.
SURE = 1.0


class _Quiet(NamedTuple):
    """A position that was read, and the write counter at that time: valid until it changes."""

    counter: WriteCounter
    seen: os.stat_result
    position: Position


@dataclass(slots=True)
class _Kept:
    """A connection that a thread keeps, and the row that it last saw."""

    connection: sa.Connection
    cursor: Any
    #: The process and the database that the connection belongs to.
    pid: int
    identity: Hashable
    #: How often a database had been silent when it was made.
    silences: int
    row: tuple[Any, ...] = (-1, "")


class RevisionReader:
    """What one process knows of the position of `database`; `open_store` opens it if need be.

    While the write counter is unchanged, nothing was committed and nothing is read. Else, and once
    a second, it is a raw read on a connection that the thread keeps: 2 µs, where a checkout from
    the pool costs twice that and SQLAlchemy Core 85; but among other threads its two steps hand
    over the interpreter, which costs a request a tenth. A connection that fails is replaced once.
    """

    def __init__(
        self,
        database: Database,
        open_store: Callable[[], Hashable],
        monotonic: Callable[[], float],
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._open_store = open_store
        self._threads = threading.local()
        #: What the last look at the database found, and until when no other look is needed.
        self._identity: Hashable | None = None
        self._sure_until = 0.0
        self._quiet: _Quiet | None = None
        self._silences = 0

    def position(self) -> Position:
        """Return where the store is; `StoreUnavailable` when it cannot be read."""
        now = self._monotonic()
        quiet = self._quiet
        if quiet is not None and now < self._sure_until and quiet.counter.read() == quiet.seen:
            return quiet.position
        kept: _Kept | None = getattr(self._threads, "kept", None)
        if now >= self._sure_until:
            self.look()
        if (
            kept is not None
            and kept.pid == os.getpid()
            and kept.identity == self._identity
            and kept.silences == self._silences
        ):
            try:
                return self._read(kept)
            except self._database.driver_error as error:
                if self._database.is_busy(error):  # a new connection would wait as long again
                    self._silences += 1  # and so would the connections of other threads
                    raise StoreUnavailable(str(error)) from error
        identity = self._open_store()
        with self._database.outages():
            self._threads.kept = None
            connection = self._database.keep()
            cursor = connection.connection.cursor()
            kept = _Kept(connection, cursor, os.getpid(), identity, self._silences)
            self._threads.kept = kept
            return self._read(kept)

    def look(self) -> Hashable | None:
        """Return the identity of the database, None while there is none.

        All threads are let know of it: what is gone for one is gone for each.
        """
        try:
            identity = self._identity = self._database.identity()
        except StoreUnavailable:
            self._identity, self._sure_until = None, 0.0
            raise
        self._sure_until = 0.0 if identity is None else self._monotonic() + SURE
        return identity

    def close(self) -> None:
        """Forget the position and this thread's connection."""
        self._quiet = self._threads.kept = None

    def _read(self, kept: _Kept) -> Position:
        self._quiet = None
        counter = self._database.write_counter
        seen = None if counter is None else counter.read()
        # All rows are fetched: an unfinished cursor would go on seeing an old state. The row is
        # given back as the plain tuple that it came as: of a subclass, the driver takes a µs more.
        try:
            for row in kept.cursor.execute(self._database.moved, kept.row).fetchall():
                kept.row = row
        except self._database.driver_error:
            self._threads.kept = None
            kept.connection.invalidate()
            raise
        if kept.row[0] < 0:
            raise StoreUnavailable("The database has lost its revision.")
        position = Position(*kept.row)
        if counter is not None and seen is not None and is_at_rest(seen):
            self._quiet = _Quiet(counter, seen, position)
        return position
