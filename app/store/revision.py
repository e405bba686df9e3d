"""The revision of the database, which each request reads."""

from collections.abc import Hashable
from contextlib import suppress
from typing import NamedTuple

from app.catalog.errors import StoreUnavailable
from app.catalog.ports import Position
from app.store.opening import Opening, Pace, RevisionConnection

#: A read of so many seconds is fast.
_FAST = 0.0005


class _CachedPosition(NamedTuple):
    """A position of the database `identity`, valid while that is the one in use.

    It ends at `until`, and when `Backend.write_state` is not what it was before the read.
    """

    identity: Hashable
    until: float
    write_state: bytes
    position: Position


class RevisionReader:
    """Reads the revision on a connection that each thread has for it.

    While nothing was written, nothing is read. Else, and once a second, it is a raw read: 2 µs,
    where a checkout from the pool costs twice that and SQLAlchemy Core 85; but among other threads
    its two steps hand over the interpreter, which costs a request a tenth. A connection that fails
    is replaced once.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._cached: _CachedPosition | None = None
        self._pace = Pace(opening, _FAST)

    def position(self) -> Position:
        """Return the last committed change; `StoreUnavailable` when it cannot be read."""
        cached, opening = self._cached, self._opening
        if (
            cached is not None
            and opening.monotonic() < cached.until
            and opening.identity == cached.identity
            and opening.backend.write_state() == cached.write_state
        ):
            return cached.position
        self._cached = None
        connection = opening.revision_connection()
        if connection is not None:
            with suppress(*opening.backend.driver_error):
                return self._read(connection)
        with opening.outages():
            return self._read(opening.connect_for_revision())

    def _read(self, connection: RevisionConnection) -> Position:
        backend = self._opening.backend
        write_state, until = backend.write_state(), self._opening.checked_until
        began = self._pace.before()
        # All rows are fetched: an unfinished cursor would go on seeing an old state. The row is
        # given back as the plain tuple that it came as: of a subclass, the driver takes a µs more.
        try:
            for row in connection.cursor.execute(backend.moved, connection.row).fetchall():
                connection.row = row
        except backend.driver_error as error:
            self._opening.discard_revision_connection(error)
            raise
        self._pace.after(began)
        if connection.row[0] < 0:
            raise StoreUnavailable("The database has lost its revision.")
        position = Position(*connection.row)
        if write_state is not None:
            # Another thread may have opened another file meanwhile: ours is that of `connection`.
            identity = connection.made_in[1]
            self._cached = _CachedPosition(identity, until, write_state, position)
        return position
