"""The database: how it is opened, followed, written and backed up."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.ports import Changes, Image
from app.settings import Settings
from app.store.backup import write_copy
from app.store.documents import read_key, read_model
from app.store.engine import (
    READ_TIMEOUT,
    WRITE_TIMEOUT,
    create_engine,
    journal_mode,
    outages_translated,
    sqlite,
    wait_for_others,
)
from app.store.first_key import add_first_key, add_given_key
from app.store.lock import FileLock, Places
from app.store.schema import needs_upgrade, schema_number, upgrade
from app.store.tables import catalogue, changes, keys, models
from app.store.transaction import SqlTransaction, all_keys

_log = logging.getLogger(__name__)

#: How long a start waits for another process that is preparing the same database, in seconds.
OPEN_TIMEOUT = 60.0

#: How long a reader takes the file for the same without looking, in seconds.
_SURE = 1.0

# Made once: to make a statement costs SQLAlchemy more than to run it.
_CHANGES = (
    sa.select(
        changes.c.revision,
        changes.c.model_id,
        models.c.document,
        models.c.revision.label("model_revision"),
        changes.c.kid,
        keys.c.digest,
        keys.c.document.label("key_document"),
    )
    .outerjoin(models, models.c.id == changes.c.model_id)
    .outerjoin(keys, keys.c.kid == changes.c.kid)
    .where(changes.c.revision > sa.bindparam("after"))
    .order_by(changes.c.revision)
)
# While nothing has changed there is no row, and so one step of SQLite where a row takes two: each
# step hands the interpreter to another thread, which costs more than the step.
_MOVED = "SELECT revision FROM catalogue WHERE revision <> ?"


#: Process, device and inode: a connection survives neither a fork nor a replaced file.
_Identity = tuple[int, int, int]


class Store:
    """A `Feed` and a `Writer` (see ``app.catalog.ports``) on the database of `settings`.

    Nothing is opened before the first use, and each process opens its own. `clock` tells Unix
    seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        #: The database file.
        self.path = settings.database_path
        self._engine = create_engine(self.path)
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._places = Places(max(1, settings.threads - 1))
        self._opening = threading.Lock()
        self._opened: _Identity | None = None
        self._kept = threading.local()
        #: What the last look at the file found, and until when no other look is needed.
        self._seen: _Identity | None = None
        self._sure_until = 0.0

    # Opening

    def open(self, *, create: bool = False) -> None:
        """Prepare the database for this process; nothing happens when that was done before.

        An older schema is upgraded. A missing database is an outage, and never an empty
        catalogue, unless it is to be created: then it gets our schema and the first admin key.
        Any number of processes may do so at once. Raises `StoreUnavailable`, among others for a
        newer schema and a malformed key file.
        """
        if self._opened is not None and self._opened == self._look():
            return
        with self._opening, outages_translated():
            identity = self._look()
            if self._opened is not None:
                if identity == self._opened:
                    return
                # After a fork the connections are the parent's, and not ours to close.
                self._engine.dispose(close=identity is None or identity[0] == self._opened[0])
            if identity is None and not create:
                raise StoreUnavailable(
                    f"There is no database {self.path}: a server's start and 'flask db upgrade' "
                    "make one."
                )
            if identity is None or self._unprepared():
                self._make_folders()
                deadline = time.monotonic() + OPEN_TIMEOUT
                with self._lock.held(deadline):
                    self._prepare(deadline)
            self._opened = self._look()
            if journal_mode() != "wal":
                _log.warning(
                    "SQLite %s has the WAL-reset bug: using journal_mode=TRUNCATE, where a write "
                    "holds up readers. Install pysqlite3 or a newer SQLite.",
                    sqlite.sqlite_version,
                )

    def add_given_key(self) -> None:
        """Add the key of ``ROSTER_ADMIN_KEY_FILE``, as a server does when it starts."""
        now = int(self._clock())
        with self.transaction(actor="start", now=now) as transaction:
            add_given_key(transaction, self._settings, now)

    def close(self) -> None:
        """Close this process's connections, but for those that other threads keep."""
        self._kept.__dict__.clear()
        self._engine.dispose()
        self._opened = None

    def schema(self) -> int | None:
        """Return the schema of the database, None when there is none; change nothing."""
        if not self.path.exists():
            return None
        with outages_translated(), self._engine.connect() as connection:
            return schema_number(connection)

    def _identity(self) -> _Identity | None:
        """Return whose connections can be used now, None while there is no file.

        Raises `StoreUnavailable` where the file cannot be written.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        if not os.access(self.path, os.W_OK):
            # SQLite would open it for reading. Then what all connections of a process share stays
            # read-only until the last of them is closed, long after the disk can be written.
            raise StoreUnavailable("The database is read-only.")
        return os.getpid(), stat.st_dev, stat.st_ino

    def _look(self) -> _Identity | None:
        """Return the identity, and let all threads know of it: what is gone is gone for each."""
        try:
            seen = self._identity()
        except StoreUnavailable:
            self._seen, self._sure_until = None, 0.0
            raise
        self._seen = seen
        self._sure_until = 0.0 if seen is None else time.monotonic() + _SURE
        return seen

    def _make_folders(self) -> None:
        # What is hidden from readers is hidden from strangers on the host, too.
        self._settings.instance_path.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)

    def _unprepared(self) -> bool:
        with self._engine.connect() as connection:
            return (
                needs_upgrade(schema_number(connection))
                or _journal_mode(connection) != journal_mode()
                or not all_keys(connection)
            )

    def _prepare(self, deadline: float) -> None:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o640))
        connection = self._engine.raw_connection()
        try:  # outside a transaction: inside one, the journal mode cannot change
            connection.cursor().execute(f"PRAGMA journal_mode={journal_mode()}").fetchall()
        finally:
            connection.close()
        with self._writing(deadline) as sql:
            if needs_upgrade(schema_number(sql)):
                upgrade(sql)
        now = int(self._clock())
        with self._transaction(deadline, actor="start", now=now) as transaction:
            if not transaction.all_keys():
                add_first_key(transaction, self._settings, now)

    # Following

    def revision(self) -> int:
        """Return the revision of the last committed change.

        A raw read on a connection that the thread keeps: 2 µs, where a checkout from the pool
        costs twice that and SQLAlchemy Core 85. A connection that fails is replaced once. That
        the file is still the same is looked at once a second.
        """
        kept = self._kept.__dict__
        if time.monotonic() >= self._sure_until:
            self._look()
        if kept.get("pid") == os.getpid() and kept["identity"] == self._seen:
            try:
                return _read_revision(kept)
            except sqlite.OperationalError as error:
                if "locked" in str(error):  # a new connection would wait as long again
                    raise StoreUnavailable(str(error)) from error
                kept["connection"].invalidate()
            except sqlite.Error:
                kept["connection"].invalidate()
        self.open()
        identity = self._opened
        with outages_translated():
            kept.clear()
            connection = self._engine.connect()
            wait_for_others(connection, READ_TIMEOUT)
            cursor: Any = connection.connection.cursor()
            kept.update(
                connection=connection,
                cursor=cursor,
                pid=os.getpid(),
                identity=identity,
                revision=-1,
            )
            return _read_revision(kept)

    def load(self) -> Image:
        """Return all entries and keys, as one transaction saw them."""
        self.open()
        with outages_translated(), self._engine.connect() as connection:
            revision = connection.execute(sa.select(catalogue.c.revision)).scalar()
            if revision is None:
                raise StoreUnavailable("The database has lost its revision.")
            rows = connection.execute(sa.select(models.c.document, models.c.revision))
            return Image(revision, [read_model(*row) for row in rows], all_keys(connection))

    def changes_since(self, revision: int) -> Changes | None:
        """Return what changed after `revision`; one statement, so one state of the database."""
        with outages_translated(), self._engine.connect() as connection:
            rows = connection.execute(_CHANGES, {"after": revision}).all()
        if not rows or rows[-1].revision - revision != len(rows):
            return None
        changed: dict[str, Model | None] = {}
        changed_keys: dict[str, ApiKey] = {}
        for row in rows:
            if row.kid is not None:
                changed_keys[row.kid] = read_key(row.kid, row.digest, row.key_document)
            elif row.document is None:
                changed[row.model_id] = None
            else:
                changed[row.model_id] = read_model(row.document, row.model_revision)
        return Changes(rows[-1].revision, changed, changed_keys)

    # Writing

    @contextmanager
    def transaction(self, *, actor: str, now: int) -> Iterator[SqlTransaction]:
        """Open a transaction for `actor` at `now`, after all others.

        One deadline, set at arrival, serves for the queue of our writers and for SQLite's lock.
        """
        deadline = time.monotonic() + WRITE_TIMEOUT
        self.open()
        with (
            self._places.taken(),
            outages_translated(),
            self._lock.held(deadline),
            self._transaction(deadline, actor=actor, now=now) as transaction,
        ):
            yield transaction

    @contextmanager
    def _transaction(self, deadline: float, *, actor: str, now: int) -> Iterator[SqlTransaction]:
        with self._writing(deadline) as connection:
            transaction = SqlTransaction(connection, actor=actor, now=now)
            yield transaction
            if not transaction.changed:
                connection.rollback()

    @contextmanager
    def _writing(self, deadline: float) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            connection.execution_options(write_until=deadline)
            yield connection
            if connection.in_transaction():
                connection.commit()

    def backup(self, target: Path) -> None:
        """Write a consistent copy to `target` while others go on; for its owner alone.

        Raises `FileExistsError` rather than replace anything.
        """
        self.open()
        write_copy(self._engine, target)


def _read_revision(kept: dict[str, Any]) -> int:
    # All rows are fetched: an unfinished cursor would go on seeing an old state.
    for (revision,) in kept["cursor"].execute(_MOVED, (kept["revision"],)).fetchall():
        kept["revision"] = revision
    if kept["revision"] < 0:
        raise StoreUnavailable("The database has lost its revision.")
    return int(kept["revision"])


def _journal_mode(connection: sa.Connection) -> str:
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
