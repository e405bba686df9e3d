"""The store: what the catalogue, the commands and the metrics use of the database."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.ports import Actor, Changes, Position, StoredCatalog
from app.catalog.sources import FailedRun, GoodRun, SourceState
from app.settings import Settings
from app.store.backend import MAX_MEASURED, OPEN_TIMEOUT, Backend, Measured, Restored
from app.store.copying import Contents, contents, copy, count
from app.store.documents import read_key, read_model, read_source, write_run
from app.store.files import new_file
from app.store.first_key import add_given_key
from app.store.log import Log
from app.store.opening import START, Opening
from app.store.pruning import Pruning
from app.store.revision import RevisionReader
from app.store.schema import HEAD, newer_schema, upgrade
from app.store.sqlite.backend import SQLite
from app.store.tables import catalogue, changes, keys, models, sources
from app.store.transaction import find_models, write_connection
from app.store.writing import Writer

# Statements are made once: SQLAlchemy takes longer to make one than to run it.
_CATALOGUE = sa.select(catalogue.c.revision, catalogue.c.mark, catalogue.c.oldest_schema)
_MODELS = sa.select(models.c.document, models.c.revision)
_KEYS = sa.select(keys)
_base = changes.alias("base")
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
        # If our revision is of another history, its later changes are none to our state.
        sa.select(_base.c.revision)
        .where(_base.c.revision == sa.bindparam("after"), _base.c.mark == sa.bindparam("mark"))
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
# Lines before `pruned` are not counted: most are gone.
_LAST = sa.select(sa.func.max(changes.c.revision)).scalar_subquery()
_OLDEST = (
    sa.select(changes.c.revision, changes.c.at)
    .where(changes.c.revision >= sa.select(catalogue.c.pruned).scalar_subquery())
    .order_by(changes.c.revision)
    .limit(1)
    .subquery("oldest")
)
_LOG = sa.select(_LAST - _OLDEST.c.revision + 1, _OLDEST.c.at)
_SOURCES = sa.select(sources)
_MEASURED_SOURCES = _SOURCES.order_by(sources.c.name).limit(MAX_MEASURED)
_RECORD = """INSERT INTO sources (name, format, {0}) VALUES (:name, :format, :run)
ON CONFLICT (name) DO UPDATE
SET format = coalesce(excluded.format, sources.format), {0} = excluded.{0}"""
_RECORD_RUN = {
    GoodRun: sa.text(_RECORD.format("last_good")),
    FailedRun: sa.text(_RECORD.format("last_failed")),
}


class Store:
    """A `Feed` and a `Writer` (see ``app.catalog.ports``) on the database of `settings`.

    Nothing is opened before the first use, and each process opens its own connections. `clock`
    returns Unix seconds, `monotonic` seconds that never go back.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._opening = Opening(settings, clock, monotonic)
        self.writer = Writer(self._opening, settings.threads)
        self.log = Log(self._opening)
        self.pruning = Pruning(self._opening, self.writer)
        # Methods of this class that only call these would cost each request a call.
        self.position = RevisionReader(self._opening).position
        self.transaction = self.writer.transaction
        self.open = self._opening.open
        self.schema = self._opening.schema
        self.close = self._opening.close

    @property
    def name(self) -> str:
        """The name of the database in messages."""
        return self.settings.database_name

    @property
    def backend(self) -> Backend:
        """SQLite or PostgreSQL."""
        return self._opening.backend

    def call_before_waiting(self, call: Callable[[], None]) -> None:
        """Let `call` be called in each thread that is about to wait for the database."""
        self._opening.call_before_waiting = call

    def add_given_key(self) -> None:
        """Add the key of ``ROSTER_ADMIN_KEY_FILE``, as a server does when it starts."""
        now = int(self._clock())
        with self.transaction(actor=START, now=now) as transaction:
            add_given_key(transaction, self.settings, now)

    def load(self, *, standby: bool = False) -> StoredCatalog:
        """Return all entries and keys, as one transaction saw them."""
        if standby:
            with self._opening.outages(), self.backend.standby() as connection:
                return _stored_catalog(connection)
        self._opening.open()
        with self._opening.reading() as connection:
            return _stored_catalog(connection)

    def model(self, name: str) -> Model | None:
        """Return the entry with this id or alias, without reading any other."""
        self._opening.open()
        with self._opening.reading() as connection:
            _catalogue(connection)
            return find_models(connection, [name]).get(name)

    def keys(self) -> list[ApiKey]:
        """Return all keys, oldest first, without reading any entry."""
        self._opening.open()
        with self._opening.reading() as connection:
            _catalogue(connection)
            found = [read_key(*key) for key in connection.execute(_KEYS)]
        return sorted(found, key=lambda key: (key.created, key.kid))

    def count(self) -> int:
        """Return how many entries there are."""
        self._opening.open()
        with self._opening.reading() as connection:
            _catalogue(connection)
            return count(connection, models)

    def contents(self) -> Contents:
        """Return the revision, and how many entries, keys and changes there are."""
        self._opening.open()
        with self._opening.reading() as connection:
            _catalogue(connection)
            return contents(connection)

    def measure(self) -> Measured:
        """Return what the metrics have of the database; wait no longer than a reader may."""
        self._opening.open()
        with self._opening.outages(), self.backend.revision_connection() as connection:
            number, oldest = connection.execute(_LOG).one_or_none() or (0, None)
            found = [read_source(*row) for row in connection.execute(_MEASURED_SOURCES).all()]
            return Measured(number, oldest, self.backend.size(connection), found, self._clock())

    def sources(self) -> list[SourceState]:
        """Return all sources of imports, in order of their names."""
        self._opening.open()
        with self._opening.reading() as connection:
            _catalogue(connection)
            found = [read_source(*row) for row in connection.execute(_SOURCES)]
        return sorted(found, key=lambda source: source.name)

    def record_run(
        self, name: str, run: GoodRun | FailedRun, *, known_format: str | None = None
    ) -> None:
        """Record how an import from the source `name` ended, in place of an earlier such end.

        The source keeps its format if none is known. No revision is taken.
        """
        row = {"name": name, "format": known_format, "run": write_run(run)}
        with self.writer.connection() as connection:
            _catalogue(connection)
            connection.execute(_RECORD_RUN[type(run)], row)

    def changes_since(self, position: Position) -> Changes | None:
        """Return what changed after `position`, by one statement, which sees one state.

        The document of an entry or key that changed several times is read once.
        """
        after = {"after": position.revision, "mark": position.mark}
        newest, count, last = position.revision, 0, position
        changed: dict[str, Model | None] = {}
        changed_keys: dict[str, ApiKey] = {}
        with self._opening.reading() as connection:
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

    def own_changes(self, position: Position, newest: Position) -> Changes | None:
        """Return what this process has written between the two positions, without reading."""
        own = self.writer.own
        return own and own.between(position, newest)

    def copy_to(self, url: str) -> Contents:
        """Copy everything into the empty database `url`, as one transaction saw it.

        Everything is copied when this returns, or nothing. Raises `StoreRefused` for a database
        that is not empty, and while another process has ours open, if it is a file.
        """
        self._opening.open()
        opening = Opening(replace(self.settings, database_url=url), self._clock)
        deadline = time.monotonic() + OPEN_TIMEOUT
        try:
            target = opening.backend
            if isinstance(target, SQLite) and target.identity() == self.backend.identity():
                raise StoreRefused(
                    "The URL names the database itself: name the file that is to be made."
                )
            with self.backend.alone(), opening.outages(), target.preparing(deadline):
                target.prepare(None)
                with write_connection(target, deadline) as there, self._opening.reading() as here:
                    upgrade(there)
                    return copy(here, there)
        finally:
            opening.close()

    def backup(self, target: Path) -> None:
        """Write a consistent copy to `target`, which only its owner may read, while servers run.

        Raises `FileExistsError` if `target` exists.
        """
        self._opening.open()
        backend = self._sqlite(f"backed up by the server's tools: pg_dump -Fc -f {target} URL")
        with new_file(target) as draft, self._opening.outages():
            backend.copy(draft)

    def restore(self, source: Path, *, actor: Actor, revive_keys: bool = False) -> Restored:
        """Replace the database, which no process may have open, by the backup `source`.

        The backup is checked before anything is changed. The replaced database stays beside it.
        Keys that were revoked or rotated since the backup stay so, unless `revive_keys`; the log
        has a line of `actor` for each. Raises `StoreRefused` where a person has to act, and
        `StoreUnavailable`.
        """
        backend = self._sqlite(
            "restored by the server's tools, from a backup of theirs: pg_restore -c -1 -d URL FILE"
        )
        with self._opening.outages():
            return backend.restore(source, self._clock(), actor=actor, revive_keys=revive_keys)

    def _sqlite(self, instead: str) -> SQLite:
        if isinstance(self.backend, SQLite):
            return self.backend
        raise StoreRefused(f"A database of a server is {instead}")


def _stored_catalog(connection: sa.Connection) -> StoredCatalog:
    row = _catalogue(connection)
    entries = [read_model(*entry) for entry in connection.execute(_MODELS)]
    api_keys = [read_key(*key) for key in connection.execute(_KEYS)]
    return StoredCatalog(row.revision, entries, api_keys, row.mark)


def _catalogue(connection: sa.Connection) -> sa.Row[int, str, int]:
    """Return the row of the catalogue; raise `StoreRefused` if it asks for a newer program."""
    row = connection.execute(_CATALOGUE).one_or_none()
    if row is None:
        raise StoreUnavailable("The database has lost its revision.")
    if row.oldest_schema > HEAD:
        raise newer_schema(row.oldest_schema)
    return row
