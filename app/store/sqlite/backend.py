"""A store on one SQLite file."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.ports import Actor
from app.store.backend import READ_TIMEOUT, WRITE_TIMEOUT, Backend, Restored
from app.store.files import (
    check_own,
    denied,
    lacking,
    new_file,
    numbered,
    own_file,
    remove_left_drafts,
    warn_of_others,
)
from app.store.schema import HEAD
from app.store.sqlite.connection import create_engine, journal_mode, sqlite, wait_for_others
from app.store.sqlite.locks import UseLock, WriterLock
from app.store.sqlite.restoring import check_files, check_pages, damaged, restore
from app.store.sqlite.wal import NO_TABLES, check_pair, has_content, wal_of
from app.store.sqlite.write_counter import WriteCounter

_log = logging.getLogger(__name__)

#: What SQLite says where a file system cannot do what it needs, and for other reasons.
_FILE_SYSTEM = ("disk I/O error", "locking protocol", "unable to open database file")

_Identity = tuple[int, int, int]


class SQLite(Backend):
    """The database in the file `path`; several processes of one host may use it."""

    # The message about a damaged file may not be valid UTF-8.
    driver_error = (sqlite.DatabaseError, UnicodeDecodeError)
    # No row takes one step of SQLite, a row takes two: in each step other threads may get the
    # interpreter, which costs more than the step.
    moved = "SELECT revision, mark FROM catalogue WHERE revision <> ? OR mark <> ?"

    def __init__(self, path: Path, before_waiting: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._before_waiting = before_waiting
        self._writer_lock = WriterLock(path.with_name(path.name + ".lock"))
        self._counter = WriteCounter(path.with_name(path.name + ".writes"))
        # A method of this class that only calls this one would cost each request a call.
        self.write_state = self._counter.state  # type: ignore[method-assign]
        self._use_lock = UseLock(path.with_name(path.name + ".users"), self._check_pair)
        self.reading = self.writing = create_engine(path, self._enter)

    def identity(self) -> _Identity | None:
        """Return process id, device and inode.

        Raises `StoreUnavailable` where the file cannot be written.
        """
        try:
            stat = check_own(self._path, links=2)  # during a restore it has two names
        except OSError as error:
            raise StoreUnavailable(self.reason(error)) from error
        if stat is None:
            return None
        if not os.access(self._path, os.W_OK):
            # SQLite would open it read-only, and all connections of the process would stay
            # read-only until the last one is closed, even when the file is writable again.
            raise StoreUnavailable(
                f"The database {self._path} cannot be written: its disk is read-only, or its "
                "permissions do not allow it."
            )
        return os.getpid(), stat.st_dev, stat.st_ino

    @contextmanager
    def preparing(self, deadline: float) -> Iterator[None]:
        """Make the folder, and hold the writers' lock."""
        self._make_folder()
        with self.writer_lock(deadline):
            try:
                yield
            except BaseException:
                # In WAL mode, a file without tables would seem to lack its log.
                with suppress(StoreUnavailable, OSError, sa.exc.DBAPIError, *self.driver_error):
                    if self._path.stat().st_size == NO_TABLES:
                        self._set("journal_mode=delete")
                raise

    def check(self) -> None:
        """Check every page: a tenth of a second for 100,000 entries."""
        remove_left_drafts(self._path.parent)
        warn_of_others(self._path)
        self._enter()
        check_pages(self._path)

    def is_prepared(self, connection: sa.Connection) -> bool:
        """Return whether the journal mode is the one that is safe with this library."""
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return bool(mode == journal_mode())

    def prepare(self, schema: int | None) -> None:
        """Make the file, set its journal mode, and copy a file of an older schema."""
        if not self._path.exists():
            gone = (  # they would serve empty lists from a new one
                f"{self._path} is gone, and servers or commands had it open: put it back. To "
                "begin with an empty one, stop them first."
            )
            with self._use_lock.exclusive(gone):
                check_files(self._path)
                check_pair(self._path)
                with own_file(self._path):
                    pass
        self._set(f"journal_mode={journal_mode()}")
        if schema is not None and schema < HEAD:
            for target in numbered(self._path.with_name(f"{self._path.name}.schema-{schema}")):
                with suppress(FileExistsError):
                    with new_file(target) as draft:
                        self.copy(draft)
                    _log.warning("Copied the database as it was before the upgrade to %s.", target)
                    return

    @contextmanager
    def writer_lock(self, deadline: float) -> Iterator[None]:
        """Hold the lock of `WriterLock`, and count the write."""
        with self._writer_lock.held(deadline, self._before_waiting), self._counter.counted():
            yield

    def commit(self, connection: sa.Connection, *_: object) -> None:
        """Commit."""
        connection.commit()

    def checkpoint_later(self, connection: sa.Connection) -> None:
        """Let the commit leave the write-ahead log as it is, however long it gets."""
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint=0")

    def checkpoint(self) -> None:
        """Write the write-ahead log into the file, as far as no reader needs it."""
        self._set("wal_checkpoint(PASSIVE)", "wal_autocheckpoint=1000")

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes out; they wait until they may open the file."""
        return self._use_lock.alone()

    def revision_connection(self) -> sa.Connection:
        """Return a connection that waits for locks no longer than a reader may."""
        connection = self.reading.connect()
        wait_for_others(connection, READ_TIMEOUT)
        return connection

    def size(self, connection: sa.Connection) -> int:  # noqa: ARG002 - the files have it
        """Add up the file and its write-ahead log."""
        files = (self._path, wal_of(self._path))
        return sum(file.stat().st_size for file in files if file.exists())

    def is_busy(self, error: Exception) -> bool:
        """Return whether another connection holds a lock."""
        return isinstance(error, sqlite.OperationalError) and "locked" in str(error)

    def is_outage(self, error: Exception) -> bool:
        """Also return True for a damaged file."""
        return super().is_outage(error) or type(error) is sa.exc.DatabaseError

    def reason(self, error: Exception) -> str:
        """Return also which file or folder it is about, and what to do."""
        reason = super().reason(error)
        cause = getattr(error, "orig", error)
        if isinstance(cause, PermissionError) and cause.filename is not None:
            return denied(Path(os.fsdecode(cause.filename)))
        folder = self._path.parent
        if isinstance(cause, OSError) and not folder.is_dir():
            return (
                f"{folder} is no folder, and cannot be made one ({cause.strerror}): name another "
                "one, with ROSTER_INSTANCE_PATH or ROSTER_DATABASE_URL."
            )
        if type(cause) is sqlite.DatabaseError:
            return damaged(self._path, reason)
        if isinstance(cause, OSError) or any(sentence in reason for sentence in _FILE_SYSTEM):
            return lacking(folder, maps=journal_mode() == "wal") or reason
        return reason

    def copy(self, target: Path) -> None:
        """Copy the database into the file `target`, by SQLite's backup API."""
        with self.reading.connect() as connection, closing(sqlite.connect(target)) as copy:
            connection.connection.driver_connection.backup(copy)  # type: ignore[union-attr]

    def restore(
        self, source: Path, now: float, *, actor: Actor, revive_keys: bool = False
    ) -> Restored:
        """Replace the file while no process has it open."""
        self._make_folder()
        with self._use_lock.exclusive():
            return restore(self._path, source, now, actor=actor, revive_keys=revive_keys)

    def close(self) -> None:
        """Close the connections, and release the lock that prevents a restore.

        With the last connection of all processes, SQLite writes the write-ahead log into the file
        and removes it. Two processes that close at once would each see the other's connection and
        leave the log: here one waits for the other.
        """
        with ExitStack() as stack:
            with suppress(StoreUnavailable, OSError):
                stack.enter_context(self._writer_lock.held(time.monotonic() + WRITE_TIMEOUT))
            super().close()
        self._use_lock.release()
        wal = wal_of(self._path)
        with suppress(StoreRefused, OSError):  # others have it open
            if has_content(wal):
                with self._use_lock.exclusive():
                    _log.warning("%s was not written into the database: keep both files.", wal)

    def _enter(self) -> None:
        if self._use_lock.acquire() and journal_mode() != "wal":
            _log.warning(
                "SQLite %s has the WAL-reset bug: using journal_mode=TRUNCATE, where a write "
                "holds up readers. Install pysqlite3 or a newer SQLite.",
                sqlite.sqlite_version,
            )

    def _set(self, *pragmas: str) -> None:
        connection = self.writing.raw_connection()
        try:  # outside a transaction: inside one, the journal mode cannot change
            for pragma in pragmas:
                connection.cursor().execute(f"PRAGMA {pragma}").fetchall()
        finally:
            connection.close()

    def _check_pair(self) -> None:
        check_files(self._path)
        check_pair(self._path, unfinished=self._counter.is_interrupted())

    def _make_folder(self) -> None:
        # Other users of the host may not read entries that are hidden from some viewers.
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
