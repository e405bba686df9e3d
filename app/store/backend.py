"""What differs between SQLite and PostgreSQL; `Store` is what they share."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.ports import Position
from app.store.sqlite.write_counter import WriteCounter

#: How long a writer waits from its arrival, for writers of ours and for others, in seconds.
WRITE_TIMEOUT = 5.0
#: How long a reader waits; the last image is at hand. In seconds.
READ_TIMEOUT = 0.25
#: How long a start waits for another process that checks, restores or prepares the same database,
#: in seconds.
OPEN_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored database holds, and where the one before it is, if there was one."""

    revision: int
    entries: int
    kept: Path | None
    keys: "RestoredKeys"


@dataclass(frozen=True, slots=True)
class RestoredKeys:
    """How the keys differ from those of the database that was replaced."""

    #: Revoked since the backup; they stay so.
    revoked: Sequence[ApiKey] = ()
    #: Rotated since the backup; they end when they would have ended.
    rotated: Sequence[ApiKey] = ()
    #: Revoked or rotated since the backup, and as they were at the backup.
    revived: Sequence[ApiKey] = ()
    #: Made since the backup.
    gone: Sequence[ApiKey] = ()
    #: In the backup alone. No key is ever deleted: somebody else may have put these there.
    added: Sequence[ApiKey] = ()
    #: In both, and different in more than their ends, which is all that we ever change.
    changed: Sequence[ApiKey] = ()
    #: Why not all of this is known, None if it is.
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the log and of the database."""

    #: Revisions from the first line of the log to the last.
    log_changes: int
    #: What the database takes on its disk.
    database_bytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What identifies a write whose COMMIT was not confirmed."""

    #: Its first change.
    first: Position
    #: What the database calls the transaction, if it has a name for it.
    transaction_id: str | None


class Backend(ABC):
    """SQLite or PostgreSQL. It connects when it is first used."""

    #: For transactions that read: each sees one state.
    reading: sa.Engine
    #: For transactions that write: each sees what was committed before it, and commits durably.
    writing: sa.Engine
    #: What the driver raises where SQLAlchemy is not in between.
    driver_error: tuple[type[Exception], ...]
    #: The driver's SQL for revision and mark, if they are no longer those of its parameters.
    moved: str
    #: What a writer's first statement returns beside the revision, for `commit`.
    transaction_id: sa.ColumnElement[Any] = sa.null()
    #: What changes with every write, if there is anything that costs less than to ask.
    write_counter: WriteCounter | None = None

    @abstractmethod
    def identity(self) -> Hashable | None:
        """Return what connections belong to, None while there is no database.

        When it is another than before, the connections are another process's, or to a database
        that has been replaced.
        """

    @abstractmethod
    def preparing(self, deadline: float) -> AbstractContextManager[None]:
        """Hold the lock of those who prepare it, until `deadline` (`time.monotonic`)."""

    def check(self) -> None:  # noqa: B027 - a server checks its own files
        """Raise `StoreRefused` when the database is damaged."""

    @abstractmethod
    def is_prepared(self, connection: sa.Connection) -> bool:
        """Tell whether there is nothing for `prepare` to do."""

    @abstractmethod
    def prepare(self, schema: int | None) -> None:
        """Make what must be there before there are tables; back up what has an older `schema`."""

    @abstractmethod
    def writer_lock(self, deadline: float) -> AbstractContextManager[None]:
        """Hold the lock of writers; raise `StoreUnavailable` at `deadline` (`time.monotonic`)."""

    @abstractmethod
    def commit(self, connection: sa.Connection, proof: Proof) -> None:
        """Commit a write; raise `ChangeUncertain` or `ChangeLost` where nobody confirms it."""

    def standby(self) -> sa.Connection:
        """Return a connection to a server that only follows the one which can be written."""
        raise StoreUnavailable("There is no standby.")

    @abstractmethod
    def revision_connection(self) -> sa.Connection:
        """Return a connection for reading the revision repeatedly, outside transactions."""

    @abstractmethod
    def size(self, connection: sa.Connection) -> int:
        """Return how many bytes the database takes on its disk."""

    @abstractmethod
    def is_busy(self, error: Exception) -> bool:
        """Tell whether the driver's `error` would be the same on another connection."""

    def is_outage(self, error: Exception) -> bool:
        """Tell whether `error` is about the state of database and disk, and no mistake of ours."""
        outages = (OSError, sa.exc.OperationalError, sa.exc.InternalError, *self.driver_error)
        return isinstance(error, outages)

    def close(self) -> None:
        """Close the connections of this process."""
        self.reading.dispose()
