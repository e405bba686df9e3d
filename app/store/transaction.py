"""One write: the row, the next revision and the line in the log, together."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.keys import ADMIN, ApiKey
from app.catalog.model import Model
from app.catalog.ports import Actor, Change, Changes, Position
from app.store.backend import READ_ONLY, Backend
from app.store.documents import read_key, read_model, write_key, write_model
from app.store.schema import HEAD, new_mark, newer_schema
from app.store.tables import aliases, catalogue, changes, keys, models

#: How many entries have their documents, twice, in memory at a time.
_BATCH = 1_000
#: The most changes of a process that its next read need not read from the database.
_OWN = 100


class Prepared:
    """A statement of a write: SQLAlchemy composes it once for each database, the driver runs it.

    To run it, too, SQLAlchemy takes ten times as long as SQLite takes for the statement itself.
    `columns` are those that an INSERT or UPDATE sets, beside those that the statement names.
    """

    def __init__(self, statement: Any, *columns: str) -> None:
        self._statement = statement
        self._columns = columns
        self._texts: dict[str, str] = {}

    def run(self, connection: sa.Connection, *rows: Mapping[str, Any]) -> list[Any]:
        """Run it with the parameters of each of `rows`, by name; return the rows of the answer.

        Errors of the driver are raised as SQLAlchemy raises them.
        """
        if not rows:
            return []
        text = self.text(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(text, rows[0])
            else:
                cursor.executemany(text, rows)
            return [] if cursor.description is None else [*cursor.fetchall()]
        except connection.dialect.loaded_dbapi.Error as error:
            raise _failure(connection, text, error) from error
        finally:
            cursor.close()

    def text(self, dialect: sa.Dialect) -> str:
        """Return the SQL for the driver."""
        if dialect.name not in self._texts:
            made = self._statement.compile(dialect=dialect, column_keys=self._columns or None)
            self._texts[dialect.name] = str(made)
        return self._texts[dialect.name]


def _failure(connection: sa.Connection, text: str, error: Any) -> Any:
    """Return what SQLAlchemy would raise for an error of the driver.

    After one that ends connections, all that are idle are closed as well.
    """
    dialect = connection.dialect
    lost = getattr(error, "sqlstate", None) == READ_ONLY or dialect.is_disconnect(
        error, connection.connection, None
    )
    if lost:
        connection.invalidate(error)
        connection.engine.dispose()
    return sa.exc.DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,  # errors are logged
        connection_invalidated=lost,
        dialect=dialect,
    )


_WHICH: sa.BindParameter[str] = sa.bindparam("which")
#: The name in the log and the statement of a write, by whether there was and will be an entry.
_WRITES = {
    (True, False): ("model.delete", Prepared(sa.delete(models).where(models.c.id == _WHICH))),
    (True, True): (
        "model.update",
        Prepared(sa.update(models).where(models.c.id == _WHICH), "revision", "document"),
    ),
    (False, True): (
        "model.create",
        Prepared(sa.insert(models).values(id=_WHICH), "revision", "document"),
    ),
}
_ADD_ALIAS = Prepared(sa.insert(aliases))
_REMOVE_ALIAS = Prepared(sa.delete(aliases).where(aliases.c.alias == _WHICH))
_KEY = Prepared(sa.select(keys).where(keys.c.kid == _WHICH))
# Few keys have the word in their document: only these are parsed.
_ADMIN_KEYS = sa.select(keys).where(keys.c.document.contains(f'"{ADMIN}"'))
_ANY_KEY = sa.select(keys.c.kid).limit(1)
_ADD_KEY = Prepared(sa.insert(keys))
_CHANGE_KEY = Prepared(sa.update(keys).where(keys.c.kid == _WHICH), "document")
_ADD_LINE = Prepared(sa.insert(changes))

_MARK = Prepared(sa.select(changes.c.mark).where(changes.c.revision == _WHICH))

_STEP = (
    sa.update(catalogue)
    .values(revision=catalogue.c.revision + sa.bindparam("steps"), mark=sa.bindparam("fresh_mark"))
    .returning(catalogue.c.revision)
)
_NEXT = Prepared(_STEP)
# Written out: SQLAlchemy would leave out the table, and mean the other revision.
_MARK_BEFORE: sa.ColumnClause[str] = sa.literal_column(
    "(SELECT mark FROM changes WHERE changes.revision = catalogue.revision - 1)"
)


class OwnChanges(NamedTuple):
    """Changes that this process has made one after another, and nobody else in between."""

    #: The positions before each of them, and after the last one.
    positions: tuple[Position, ...]
    #: Of each the id of its entry, and the entry, None if it was removed.
    written: tuple[tuple[str, Model | None], ...]

    def after(self, earlier: "OwnChanges | None") -> "OwnChanges":
        """Return these changes with `earlier` ones, if those came directly before."""
        if (
            earlier is None
            or len(earlier.written) >= _OWN
            or self.positions[0] != earlier.positions[-1]
        ):
            return self
        return OwnChanges(earlier.positions[:-1] + self.positions, earlier.written + self.written)

    def between(self, position: Position, newest: Position) -> Changes | None:
        """Return the changes between two positions, None if others may have made any."""
        if newest != self.positions[-1] or position not in self.positions[:-1]:
            return None
        written = self.written[self.positions.index(position) :]
        return Changes(newest.revision, dict(written), {}, newest.mark)


@cache
def _first_statement(transaction_id: sa.ColumnElement[Any]) -> Prepared:
    """Return the first statement of a transaction that writes.

    On PostgreSQL its row lock makes revisions commit in order. There it does not see the mark of
    a change that it has waited for.
    """
    return Prepared(_STEP.returning(catalogue.c.oldest_schema, transaction_id, _MARK_BEFORE))


@cache
def _holders(number: int) -> Prepared:
    """Return the statement for the entries that have one of so many names, 1 to 17."""
    ids = [sa.bindparam(f"id_{n}", type_=sa.Text) for n in range(number)]
    return Prepared(
        sa.union_all(
            sa.select(models.c.id, models.c.document, models.c.revision).where(
                models.c.id.in_(ids)
            ),
            sa.select(aliases.c.alias, models.c.document, models.c.revision)
            .join(models, models.c.id == aliases.c.model_id)
            .where(aliases.c.alias.in_(ids)),
        )
    )


@contextmanager
def write_connection(backend: Backend, deadline: float) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that writes, and commit it."""
    with backend.writing.connect() as connection:
        connection.execution_options(write_until=deadline)
        connection.begin()  # what `Prepared` runs does not begin one
        try:
            yield connection
        except StoreUnavailable:
            connection.invalidate()  # see `Opening.reading`
            raise
        if connection.in_transaction():
            connection.commit()


@contextmanager
def transaction(
    backend: Backend, deadline: float, *, actor: Actor, now: int
) -> Iterator["SqlTransaction"]:
    """Give a transaction of `actor` at `now`; commit it if it has changed anything."""
    with write_connection(backend, deadline) as connection:
        opened = SqlTransaction(connection, backend.transaction_id, actor=actor, now=now)
        yield opened
        if opened.changed:
            backend.commit(connection, opened.first, opened.transaction_id)
        else:
            connection.rollback()


class SqlTransaction:
    """The `Transaction` of ``app.catalog.ports``, inside an open SQL transaction.

    It takes its revision before it reads, so that nobody writes between its reads and its writes.
    """

    def __init__(
        self,
        connection: sa.Connection,
        transaction_id: sa.ColumnElement[Any],
        *,
        actor: Actor,
        now: int,
    ) -> None:
        self.connection = connection
        self._actor = actor
        self._now = now
        mark = new_mark()
        first_statement = _first_statement(transaction_id)
        [row] = first_statement.run(connection, {"steps": 1, "fresh_mark": mark})
        revision, oldest_schema, self.transaction_id, self._mark_before = row
        if oldest_schema > HEAD:
            raise newer_schema(oldest_schema)
        #: The first change of this transaction, if it makes any; it has the id `transaction_id`.
        self.first = Position(revision, mark)
        #: Whether there is anything to commit.
        self.changed = False
        #: What it has changed; None unless that is one entry, and the change before it is known.
        self.own: OwnChanges | None = None

    def models_of(self, ids: Sequence[str]) -> dict[str, Model]:
        """Return the entries that have one of `ids` as id or alias now."""
        return find_models(self.connection, ids)

    @property
    def base(self) -> Position:
        """Return the last change before this transaction; its mark is empty if no line has it."""
        revision, mark = self.first.revision - 1, self._mark_before
        if mark is None:
            [[mark]] = _MARK.run(self.connection, {"which": revision}) or [[None]]
        return Position(revision, mark or "")

    def write(self, changes: Sequence[Change], action: str | None = None) -> int:
        """Store `changes`, with one statement for many of a kind, and return the last revision."""
        positions = self._next_positions(len(changes))
        for first in range(0, len(changes), _BATCH):
            part = slice(first, first + _BATCH)
            self._write_rows(changes[part], positions[part], action)
        self._index_aliases(changes)
        self.own = self._own(changes, positions)
        return positions[-1].revision

    def _own(
        self, changes: Sequence[Change], positions: Sequence[Position]
    ) -> "OwnChanges | None":
        if self._mark_before is None or len(changes) != 1 or positions[0] is not self.first:
            return None
        [(old, new)] = changes
        before = Position(self.first.revision - 1, self._mark_before)
        stored = new and replace(new, revision=self.first.revision)
        written = (new or old).id, stored  # type: ignore[union-attr]
        return OwnChanges((before, self.first), (written,))

    def _write_rows(
        self, changes: Sequence[Change], positions: Sequence[Position], action: str | None
    ) -> None:
        rows: dict[tuple[bool, bool], list[dict[str, Any]]] = {kind: [] for kind in _WRITES}
        lines = []
        for (before, after), position in zip(changes, positions, strict=True):
            model = after or before
            assert model is not None, "a change has one of the two"  # noqa: S101
            old, new = (None if m is None else write_model(m) for m in (before, after))
            kind = before is not None, after is not None
            stored = {} if new is None else {"document": new, "revision": position.revision}
            rows[kind].append({"which": model.id, **stored})
            what = {"model_id": model.id, "before": old, "after": new}
            lines.append(self._line(position, action or _WRITES[kind][0], **what))
        for kind, (_, statement) in _WRITES.items():
            statement.run(self.connection, *rows[kind])
        _ADD_LINE.run(self.connection, *lines)

    def key(self, kid: str) -> ApiKey | None:
        """Return the key as it is now."""
        if "\0" in kid:  # no kid has one, and psycopg refuses to send it
            return None
        rows = _KEY.run(self.connection, {"which": kid})
        return read_key(*rows[0]) if rows else None

    def admin_keys(self) -> Sequence[ApiKey]:
        """Return the keys of administrators as they are now."""
        found = (read_key(*row) for row in self.connection.execute(_ADMIN_KEYS))
        return [key for key in found if ADMIN in key.scopes]

    def put_key(self, key: ApiKey, before: ApiKey | None, action: str) -> None:
        """Store `key` in place of `before`; `action` is its name in the log."""
        [position] = self._next_positions(1)
        document = write_key(key)
        if before is None:
            values = {"kid": key.kid, "digest": key.digest, "document": document}
            _ADD_KEY.run(self.connection, values)
        else:
            _CHANGE_KEY.run(self.connection, {"which": key.kid, "document": document})
        old = None if before is None else write_key(before)
        line = self._line(position, action, kid=key.kid, before=old, after=document)
        _ADD_LINE.run(self.connection, line)

    def _index_aliases(self, changes: Sequence[Change]) -> None:
        """Change the rows of entries whose aliases change."""
        removed, added = [], []
        for before, after in changes:
            had = set((before and before.aliases) or ())
            has = set((after and after.aliases) or ())
            # An added one may have a row that an older program has left.
            removed += [{"which": alias} for alias in had ^ has]
            added += [{"alias": alias, "model_id": after.id} for alias in has - had if after]
        _REMOVE_ALIAS.run(self.connection, *removed)
        _ADD_ALIAS.run(self.connection, *added)

    def _next_positions(self, number: int) -> Sequence[Position]:
        """Take the next revisions; the first statement has taken the first one."""
        first = self.first if not self.changed else None
        steps = number if first is None else number - 1
        marks = [new_mark() for _ in range(steps)]
        taken = [] if first is None else [first]
        if steps:
            parameters = {"steps": steps, "fresh_mark": marks[-1]}
            [[last]] = _NEXT.run(self.connection, parameters)
            taken += map(Position, range(last - steps + 1, last + 1), marks)
        self.changed, self.own = True, None
        return taken

    def _line(
        self,
        position: Position,
        action: str,
        *,
        model_id: str | None = None,
        kid: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> dict[str, Any]:
        return {
            "revision": position.revision,
            "at": self._now,
            "actor": self._actor.name,
            "action": action,
            "model_id": model_id,
            "kid": kid,
            "before": before,
            "after": after,
            "mark": position.mark,
            "batch": self.first.revision,
            "request_id": self._actor.request_id,
        }


def find_models(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Model]:
    """Return the entries that have one of `ids` as id or alias; see `Transaction.models_of`."""
    # No id has a NUL, and psycopg refuses to send it.
    possible = [model_id for model_id in ids if "\0" not in model_id]
    found: dict[str, Model] = {}
    if not possible:
        return found
    names = {f"id_{n}": name for n, name in enumerate(possible)}
    for model_id, *stored in _holders(len(possible)).run(connection, names):
        model = read_model(*stored)
        if model_id == model.id:
            found[model_id] = model
        elif model_id in model.ids:
            found.setdefault(model_id, model)
    return found


def has_keys(connection: sa.Connection) -> bool:
    """Return whether there is any key, including revoked and expired ones."""
    return connection.execute(_ANY_KEY).first() is not None
