"""A store on one SQLite file."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.ports import Actor
from app.store.backend import READ_TIMEOUT, WRITE_TIMEOUT, Backend, Proof, Restored
from app.store.files import (
    check_own,
    new_file,
    numbered,
    own_file,
    remove_left_drafts,
    warn_of_others,
)
from app.store.schema import HEAD
from app.store.sqlite.connection import create_engine, journal_mode, sqlite, wait_for_others
from app.store.sqlite.locks import FileLock
from app.store.sqlite.presence import Presence
from app.store.sqlite.restoring import check, check_files, restore
from app.store.sqlite.wal import NO_TABLES, check_pair, has_content, wal_of
from app.store.sqlite.write_counter import WriteCounter

_log = logging.getLogger(__name__)

#: Process and inode: a connection survives neither a fork nor a replaced file.
_Identity = tuple[int, int, int]


class SQLite(Backend):
    """The database in the file `path`; several processes of one host may use it."""

    # Of a damaged file even the sentence about the damage may be unreadable.
    driver_error = (sqlite.DatabaseError, UnicodeDecodeError)
    # While nothing has changed there is no row, and so one step of SQLite where a row takes two:
    # each step hands the interpreter to another thread, which costs more than the step.
    moved = "SELECT revision, mark FROM catalogue WHERE revision <> ? OR mark <> ?"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self.write_counter = self._counter = WriteCounter(path.with_name(path.name + ".writes"))
        self._presence = Presence(path.with_name(path.name + ".users"), self._check_pair)
        self.reading = self.writing = create_engine(path, self._enter)

    def identity(self) -> _Identity | None:
        """Return which file it is, and for which process.

        Raises `StoreUnavailable` where the file cannot be written.
        """
        try:
            stat = check_own(self._path, links=2)  # a restore gives it a second name
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        if stat is None:
            return None
        if not os.access(self._path, os.W_OK):
            # SQLite would open it for reading. Then what all connections of a process share stays
            # read-only until the last of them is closed, long after the disk can be written.
            raise StoreUnavailable(
                f"The database {self._path} cannot be written: its disk is read-only, or its "
                "permissions do not allow it."
            )
        return os.getpid(), stat.st_dev, stat.st_ino

    @contextmanager
    def preparing(self, deadline: float) -> Iterator[None]:
        """Hold the writers' lock, in a folder that is made for it."""
        self._make_folder()
        with self.writer_lock(deadline):
            try:
                yield
            except BaseException:
                with suppress(StoreUnavailable, OSError, sa.exc.DBAPIError):
                    if self._path.stat().st_size == NO_TABLES:
                        self._choose_journal("delete")  # else it looks like a file without its log
                raise

    def check(self) -> None:
        """Look at every page: a tenth of a second for 100,000 entries."""
        remove_left_drafts(self._path.parent)
        warn_of_others(self._path)
        self._enter()
        check(self._path)

    def is_prepared(self, connection: sa.Connection) -> bool:
        """Tell whether the journal is the one that is safe with the library at hand."""
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return bool(mode == journal_mode())

    def prepare(self, schema: int | None) -> None:
        """Make the file, choose its journal, and copy a file of an older schema."""
        if not self._path.exists():
            gone = (  # they would follow a new one, and serve empty lists
                f"{self._path} is gone, and servers or commands had it open: put it back. To "
                "begin with an empty one, stop them first."
            )
            with self._presence.alone(gone):
                check_files(self._path)
                check_pair(self._path)
                with own_file(self._path):
                    pass
        self._choose_journal(journal_mode())
        if schema is not None and schema < HEAD:
            for target in numbered(self._path.with_name(f"{self._path.name}.schema-{schema}")):
                with suppress(FileExistsError):
                    with new_file(target) as draft:
                        self.copy(draft)
                    _log.warning("Kept %s as it was before the upgrade.", target)
                    return

    @contextmanager
    def writer_lock(self, deadline: float) -> Iterator[None]:
        """Queue at a lock of ours; at SQLite's, the slowest would wait a hundred times longer."""
        with self._lock.held(deadline), self._counter.counted():
            yield

    def commit(self, connection: sa.Connection, proof: Proof) -> None:  # noqa: ARG002 - it answers
        """Commit."""
        connection.commit()

    def revision_connection(self) -> sa.Connection:
        """Return a connection that waits as long for others as a reader may."""
        connection = self.reading.connect()
        wait_for_others(connection, READ_TIMEOUT)
        return connection

    def size(self, connection: sa.Connection) -> int:  # noqa: ARG002 - the files have it
        """Add up the file and its write-ahead log."""
        files = (self._path, wal_of(self._path))
        return sum(file.stat().st_size for file in files if file.exists())

    def is_busy(self, error: Exception) -> bool:
        """Tell whether somebody else holds a lock."""
        return isinstance(error, sqlite.OperationalError) and "locked" in str(error)

    def is_outage(self, error: Exception) -> bool:
        """Tell also of a damaged file."""
        return super().is_outage(error) or type(error) is sa.exc.DatabaseError

    def copy(self, target: Path) -> None:
        """Copy the database into the file `target`, by SQLite's backup API."""
        with self.reading.connect() as connection, closing(sqlite.connect(target)) as copy:
            connection.connection.driver_connection.backup(copy)  # type: ignore[union-attr]

    def restore(
        self, source: Path, now: float, *, actor: Actor, revive_keys: bool = False
    ) -> Restored:
        """Replace the file while nobody has it open."""
        self._make_folder()
        with self._presence.alone():
            return restore(self._path, source, now, actor=actor, revive_keys=revive_keys)

    def close(self) -> None:
        """Close the connections, and let others restore.

        With the last connection of all processes, SQLite writes the log into the file and
        removes it. Two processes that close at once would each see a connection of the other and
        leave the log: here one waits for the other.
        """
        with ExitStack() as stack:
            with suppress(StoreUnavailable, OSError):
                stack.enter_context(self._lock.held(time.monotonic() + WRITE_TIMEOUT))
            super().close()
        self._presence.leave()
        wal = wal_of(self._path)
        with suppress(StoreRefused, OSError):  # others have it open
            if has_content(wal):
                with self._presence.alone():
                    _log.warning("%s was not written into the database: keep both files.", wal)

    def _enter(self) -> None:
        if self._presence.enter() and journal_mode() != "wal":
            _log.warning(
                "SQLite %s has the WAL-reset bug: using journal_mode=TRUNCATE, where a write "
                "holds up readers. Install pysqlite3 or a newer SQLite.",
                sqlite.sqlite_version,
            )

    def _choose_journal(self, mode: str) -> None:
        connection = self.writing.raw_connection()
        try:  # outside a transaction: inside one, the journal mode cannot change
            connection.cursor().execute(f"PRAGMA journal_mode={mode}").fetchall()
        finally:
            connection.close()

    def _check_pair(self) -> None:
        check_files(self._path)
        check_pair(self._path, unfinished=self._counter.is_interrupted())

    def _make_folder(self) -> None:
        # What is hidden from readers is hidden from strangers on the host, too.
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
