"""The database: how it is opened, followed, written and backed up."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.ports import Actor, Changes, Position, StoredCatalog
from app.settings import Settings
from app.store.backend import OPEN_TIMEOUT, WRITE_TIMEOUT, Database, Restored, Size
from app.store.copying import Contents, contents, copy
from app.store.documents import read_key, read_model
from app.store.first_key import add_first_key, add_given_key
from app.store.revision import RevisionReader
from app.store.schema import HEAD, check_oldest, check_program, schema_number, upgrade
from app.store.sqlite.backend import SQLite
from app.store.tables import catalogue, changes, keys, models
from app.store.transaction import SqlTransaction, first_statement, has_keys
from app.store.writer_slots import WriterSlots

_log = logging.getLogger(__name__)

_START = Actor("start")

# Made once: to make a statement costs SQLAlchemy more than to run it.
_CATALOGUE = sa.select(catalogue.c.revision, catalogue.c.mark, catalogue.c.oldest_schema)
_MODELS = sa.select(models.c.document, models.c.revision)
_KEYS = sa.select(keys)
_known = changes.alias("known")
# Grouped by the bare column, SQLite would walk the index on it, and so the whole log.
_CHANGED_ID = changes.c.model_id.concat(sa.literal_column("''"))
_CHANGED = (
    sa.select(
        _CHANGED_ID.label("model_id"),
        changes.c.kid,
        sa.func.count().label("changes"),
        sa.func.max(changes.c.revision).label("newest"),
    )
    .where(
        changes.c.revision > sa.bindparam("after"),
        # Of another history, what follows this revision says nothing of what we have.
        sa.select(_known.c.revision)
        .where(_known.c.revision == sa.bindparam("after"), _known.c.mark == sa.bindparam("mark"))
        .exists(),
    )
    .group_by(_CHANGED_ID, changes.c.kid)
    .subquery("changed")
)
_CHANGES = (
    sa.select(
        _CHANGED,
        catalogue.c.revision.label("last_revision"),
        catalogue.c.mark.label("last_mark"),
        models.c.document,
        models.c.revision.label("model_revision"),
        keys.c.digest,
        keys.c.document.label("key_document"),
    )
    .select_from(_CHANGED.join(catalogue, sa.true()))
    .outerjoin(models, models.c.id == _CHANGED.c.model_id)
    .outerjoin(keys, keys.c.kid == _CHANGED.c.kid)
)
# Each subquery reads one end of the index; one query for both would make SQLite read all of it.
_LAST = sa.select(sa.func.max(changes.c.revision)).scalar_subquery()
_FIRST = sa.select(sa.func.min(changes.c.revision)).scalar_subquery()
_LOG_CHANGES = sa.select(sa.func.coalesce(_LAST - _FIRST + 1, 0))


class Store:
    """A `Feed` and a `Writer` (see ``app.catalog.ports``) on the database of `settings`.

    Nothing is opened before the first use, and each process opens its own. `clock` tells Unix
    seconds; by `monotonic` the database is taken for the same for a second.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._writer_slots = WriterSlots(max(1, settings.threads - 1))
        self._opening = threading.Lock()
        self._opened: Hashable | None = None
        self._opener = 0
        #: What became of the last write of this process: ``ok``, ``failing``, or ``unknown``; and
        #: when that was, on the monotonic clock.
        self.writes = "unknown"
        self.wrote_at = 0.0

    @property
    def name(self) -> str:
        """What a person calls the database."""
        return self._settings.database_name

    @cached_property
    def _database(self) -> Database:
        path = self._settings.database_path
        if path is not None:
            return SQLite(path)
        try:
            from app.store.postgresql import PostgreSQL  # noqa: PLC0415 - psycopg is an extra
        except ImportError as error:
            raise StoreRefused(
                f"PostgreSQL needs psycopg, which cannot be used here ({error}): "
                "pip install 'psycopg[binary]'"
            ) from error
        return PostgreSQL(str(self._settings.database_url))

    @cached_property
    def _first_statement(self) -> sa.Executable:
        return first_statement(self._database.transaction_id)

    @cached_property
    def _revision_reader(self) -> RevisionReader:
        return RevisionReader(self._database, self._identify, self._monotonic)

    @property
    def _engine(self) -> sa.Engine:
        return self._database.reading

    # Opening

    def open(self, *, create: bool = False) -> None:
        """Prepare the database for this process; nothing happens when that was done before.

        An older schema is upgraded. A missing database is an outage, and never an empty
        catalogue, unless it is to be created: then it gets our schema and the first admin key.
        Any number of processes may do so at once. Raises `StoreUnavailable`, among others for a
        newer schema and a malformed key file.
        """
        if self._opened is not None and self._opened == self._revision_reader.look():
            return
        with self._opening, self._database.outages():
            identity = self._revision_reader.look()
            if self._opened is not None:
                if identity == self._opened:
                    return
                self._leave()
            if create and identity is not None:
                self._database.check()
            if self._unprepared(create=create):
                # What is hidden from readers is hidden from strangers on the host, too.
                self._settings.instance_path.mkdir(mode=0o750, parents=True, exist_ok=True)
                deadline = time.monotonic() + OPEN_TIMEOUT
                with self._database.preparing(deadline):
                    self._prepare(deadline)
            self._opened = self._revision_reader.look()
            self._opener = os.getpid()
            if self._settings.database_path is not None:  # a silent server would hold up the exit
                atexit.unregister(self.close)  # of a parent, or when another file was open
                atexit.register(self.close)
            warning = self._database.startup_warning()
            if warning is not None:
                _log.warning(warning)

    def add_given_key(self) -> None:
        """Add the key of ``ROSTER_ADMIN_KEY_FILE``, as a server does when it starts."""
        now = int(self._clock())
        with self.transaction(actor=_START, now=now) as transaction:
            add_given_key(transaction, self._settings, now)

    def close(self) -> None:
        """Close this process's connections, but for those that other threads keep.

        At the exit, when no other threads are left but daemons, an opened SQLite file is closed.
        """
        atexit.unregister(self.close)
        # Else there is nothing to close, and may be no driver, or it is a parent's after a fork.
        if "_database" in vars(self) and self._opener in (0, os.getpid()):
            self._revision_reader.close()
            self._database.close()
        self._opened, self._opener = None, 0

    def schema(self) -> int | None:
        """Return the schema of the database, None when there is none; change nothing."""
        if self._database.identity() is None:
            return None
        with self._reading() as connection:
            return schema_number(connection)

    def copy_to(self, url: str) -> Contents:
        """Copy everything into the empty database `url`, as one transaction saw it.

        All of it is there when this returns, or nothing. Raises `StoreRefused` for a database
        that is not empty.
        """
        self.open()
        target = Store(replace(self._settings, database_url=url), self._clock)
        deadline = time.monotonic() + OPEN_TIMEOUT
        try:
            with target._database.outages(), target._database.preparing(deadline):
                target._database.prepare()
                with target._writing(deadline) as there, self._reading() as here:
                    upgrade(there)
                    return copy(here, there)
        finally:
            target.close()

    def _identify(self) -> Hashable:
        self.open()
        return self._opened

    def _leave(self) -> None:
        # After a fork the connections are the parent's, and not ours to close.
        self._engine.dispose(close=self._opener == os.getpid())

    def _unprepared(self, *, create: bool) -> bool:
        number = self.schema()
        if number is None and not create:
            if self._opened is not None:
                raise StoreUnavailable(f"The database {self.name} is gone: put it back.")
            raise StoreUnavailable(
                f"There is no database {self.name}: a server's start and 'flask db upgrade' "
                "make one."
            )
        if number is None or number < HEAD:
            return True
        with self._engine.connect() as connection:
            if number > HEAD:
                check_program(connection, number)
            return not self._database.is_prepared(connection) or not has_keys(connection)

    def _prepare(self, deadline: float) -> None:
        self._database.prepare()
        number = self.schema()
        if number is not None and number < HEAD:
            self._database.copy_before_upgrade(number)
        with self._writing(deadline) as sql:
            upgrade(sql)
        now = int(self._clock())
        with self._transaction(deadline, actor=_START, now=now) as transaction:
            if not transaction.has_keys():
                add_first_key(transaction, self._settings, now)

    # Following

    def position(self) -> Position:
        """Return the last committed change."""
        return self._revision_reader.position()

    def load(self, *, standby: bool = False) -> StoredCatalog:
        """Return all entries and keys, as one transaction saw them."""
        if standby:
            with self._database.outages(), self._database.standby() as connection:
                return self._image(connection)
        self.open()
        with self._reading() as connection:
            return self._image(connection)

    def _image(self, connection: sa.Connection) -> StoredCatalog:
        row = _catalogue(connection)
        entries = [read_model(*entry) for entry in connection.execute(_MODELS)]
        api_keys = [read_key(*key) for key in connection.execute(_KEYS)]
        return StoredCatalog(row.revision, entries, api_keys, row.mark)

    def contents(self) -> Contents:
        """Return the revision, and how many entries, keys and changes there are."""
        self.open()
        with self._reading() as connection:
            _catalogue(connection)
            return contents(connection)

    def size(self) -> Size:
        """Return the size of the log and the database; wait no longer than for the revision."""
        self.open()
        with self._database.outages(), self._database.keep() as connection:
            log_changes = connection.execute(_LOG_CHANGES).scalar_one()
            return Size(log_changes, self._database.size(connection))

    def changes_since(self, position: Position) -> Changes | None:
        """Return what changed after `position`; one statement, so one state of the database.

        However often an entry or key changed, its document is read once.
        """
        after = {"after": position.revision, "mark": position.mark}
        newest, count, last = position.revision, 0, position
        changed: dict[str, Model | None] = {}
        changed_keys: dict[str, ApiKey] = {}
        with self._reading() as connection:
            for row in connection.execute(_CHANGES, after):
                newest, count = max(newest, row.newest), count + row.changes
                last = Position(row.last_revision, row.last_mark)
                if row.kid is not None:
                    changed_keys[row.kid] = read_key(row.kid, row.digest, row.key_document)
                elif row.document is None:
                    changed[row.model_id] = None
                else:
                    changed[row.model_id] = read_model(row.document, row.model_revision)
        if not count or newest - position.revision != count or newest != last.revision:
            return None
        return Changes(newest, changed, changed_keys, last.mark)

    # Writing

    @contextmanager
    def transaction(self, *, actor: Actor, now: int) -> Iterator[SqlTransaction]:
        """Open a transaction for `actor` at `now`, after all others.

        One deadline, set at arrival, serves for the queue of our writers and for SQLite's lock.
        """
        deadline = time.monotonic() + WRITE_TIMEOUT
        try:
            self.open()
            with (
                self._writer_slots.taken(deadline),
                self._database.outages(),
                self._database.turn(deadline),
                self._transaction(deadline, actor=actor, now=now) as transaction,
            ):
                yield transaction
        except StoreUnavailable:
            self.writes, self.wrote_at = "failing", time.monotonic()
            raise
        if transaction.changed:
            self.writes, self.wrote_at = "ok", time.monotonic()

    @contextmanager
    def _transaction(self, deadline: float, *, actor: Actor, now: int) -> Iterator[SqlTransaction]:
        with self._writing(deadline) as connection:
            transaction = SqlTransaction(connection, self._first_statement, actor=actor, now=now)
            yield transaction
            if transaction.changed:
                self._database.commit(connection, transaction.proof)
            else:
                connection.rollback()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._database.outages(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, deadline: float) -> Iterator[sa.Connection]:
        with self._database.writing.connect() as connection:
            connection.execution_options(write_until=deadline)
            yield connection
            if connection.in_transaction():
                connection.commit()

    def backup(self, target: Path) -> None:
        """Write a consistent copy to `target` while others go on; for its owner alone.

        Raises `FileExistsError` rather than replace anything.
        """
        self.open()
        self._database.backup(target)

    def restore(self, source: Path, *, actor: Actor, revive_keys: bool = False) -> Restored:
        """Put the backup `source` in the place of the database, which nobody may have open.

        The backup is checked before anything is changed, and the database before it is kept.
        Keys that were revoked or rotated since the backup stay so, unless `revive_keys`; the log
        has a line of `actor` for each.
        Raises `StoreRefused` where a person has to act, and `StoreUnavailable`.
        """
        with self._database.outages():
            return self._database.restore(
                source, self._clock(), actor=actor, revive_keys=revive_keys
            )


def _catalogue(connection: sa.Connection) -> sa.Row[int, str, int]:
    """Return the row of the catalogue; refuse one that asks for a newer program."""
    row = connection.execute(_CATALOGUE).one_or_none()
    if row is None:
        raise StoreUnavailable("The database has lost its revision.")
    check_oldest(row.oldest_schema)
    return row
