"""The interface of SQLite and PostgreSQL: what differs between the two."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.ports import Position
from app.catalog.sources import SourceState

#: How long a writer waits for locks, in seconds.
WRITE_TIMEOUT = 5.0
#: How long a reader waits for locks, in seconds; then the last snapshot is served.
READ_TIMEOUT = 0.25
#: How long a start waits for another process that checks, restores or prepares the same database,
#: in seconds.
OPEN_TIMEOUT = 60.0
#: The SQLSTATE of a write to a server that has become a standby since we connected to it.
READ_ONLY = "25006"
#: The most sources of imports that the metrics have.
MAX_MEASURED = 100


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored database holds, and the path of the one that it has replaced."""

    revision: int
    entries: int
    previous: Path | None
    keys: "RestoredKeys"


@dataclass(frozen=True, slots=True)
class RestoredKeys:
    """How the keys differ from those of the database that was replaced."""

    #: Revoked since the backup; they stay so.
    revoked: Sequence[ApiKey] = ()
    #: Rotated since the backup; they end when they would have ended.
    rotated: Sequence[ApiKey] = ()
    #: Revoked, rotated or given an earlier expiry since, and as they were at the backup.
    revived: Sequence[ApiKey] = ()
    #: Made since the backup.
    gone: Sequence[ApiKey] = ()
    #: In the backup alone. No key is ever deleted: somebody may have added these to the file.
    added: Sequence[ApiKey] = ()
    #: In both, and different in more than revocation and rotation: edited since, or in the file.
    changed: Sequence[ApiKey] = ()
    #: Why not all of this is known, None if it is.
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the metrics have of a database."""

    #: Revisions from the first line of the log that counts to the last: see `catalogue.pruned`.
    log_changes: int
    #: The time of that first line, in Unix seconds; None if the log is empty.
    log_oldest: int | None
    #: The size on the disk.
    database_bytes: int
    #: The first `MAX_MEASURED` sources of imports, in the database's order of names.
    sources: Sequence[SourceState]
    #: The moment of the measurement, in Unix seconds.
    at: float


class Backend(ABC):
    """SQLite or PostgreSQL. It connects when it is first used."""

    #: For transactions that read: each sees one state.
    reading: sa.Engine
    #: For transactions that write: each sees what was committed before it, and commits durably.
    writing: sa.Engine
    #: The errors of the driver, for statements that do not go through SQLAlchemy.
    driver_error: tuple[type[Exception], ...]
    #: The driver's SQL for revision and mark: no row while they equal the parameters.
    moved: str
    #: The SQL for the id of a transaction, which `commit` needs.
    transaction_id: sa.ColumnElement[Any] = sa.null()

    @abstractmethod
    def identity(self) -> Hashable | None:
        """Return the identity of process and database, None while there is no database.

        It changes after a fork, and when the database is replaced: connections that were made
        before must not be used.
        """

    @abstractmethod
    def preparing(self, deadline: float) -> AbstractContextManager[None]:
        """Hold the lock for preparing the database; wait until `deadline` (`time.monotonic`)."""

    def write_state(self) -> bytes | None:
        """Return a value that is the same until somebody writes, None if unknown.

        None also while somebody writes.
        """
        return None

    def check(self) -> None:  # noqa: B027 - a server checks its own files
        """Raise `StoreRefused` if the database is damaged."""

    def is_prepared(self, connection: sa.Connection) -> bool:  # noqa: ARG002 - SQLite's
        """Return whether an existing database needs no `prepare`."""
        return True

    @abstractmethod
    def prepare(self, schema: int | None) -> None:
        """Prepare the database for its tables; back it up if it has an older `schema`."""

    @abstractmethod
    def writer_lock(self, deadline: float) -> AbstractContextManager[None]:
        """Hold the writers' lock; raise `StoreUnavailable` at `deadline` (`time.monotonic`)."""

    @abstractmethod
    def commit(
        self, connection: sa.Connection, first: Position, transaction_id: str | None
    ) -> None:
        """Commit a write; raise `ChangeUncertain` or `ChangeLost` if it is not confirmed.

        Its `first` change and its id in the database identify it.
        """

    def checkpoint_later(self, connection: sa.Connection) -> None:  # noqa: B027 - SQLite's
        """Let `checkpoint` do what the commit on `connection` would do while writers wait."""

    def checkpoint(self) -> None:  # noqa: B027 - SQLite's
        """Write what was committed into the file of the database, while others may write."""

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes out of an open database; raise `StoreRefused` if one has it open.

        A database server does not say which processes are ours: there, all may go on.
        """
        return nullcontext()

    def distrust(self) -> None:  # noqa: B027 - a file does not go away
        """Use no idle connection any more, because another one has failed."""

    def standby(self) -> sa.Connection:
        """Return a connection to any server, which may be a standby."""
        raise StoreUnavailable("There is no standby.")

    @abstractmethod
    def revision_connection(self) -> sa.Connection:
        """Return a connection for reading the revision repeatedly, outside transactions."""

    @abstractmethod
    def size(self, connection: sa.Connection) -> int:
        """Return the size of the database in bytes."""

    @abstractmethod
    def is_busy(self, error: Exception) -> bool:
        """Return whether `error` is a timeout, which a new connection would have as well."""

    def is_outage(self, error: Exception) -> bool:
        """Return whether `error` is about the state of database or disk, and no bug of ours."""
        outages = (OSError, sa.exc.OperationalError, sa.exc.InternalError, *self.driver_error)
        return isinstance(error, outages)

    def reason(self, error: Exception) -> str:
        """Return what an outage is, as one line for the operator."""
        return " ".join(str(getattr(error, "orig", error)).split())

    def close(self) -> None:
        """Close the connections of this process."""
        self.reading.dispose()
