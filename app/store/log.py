"""The log of changes, as the store has it: its lines, and what the catalogue was before them."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import (
    HistoryPruned,
    RevisionUnknown,
    StoreUnavailable,
    quote,
)
from app.catalog.history import Act, Line, LogFilter, Setters, read_lines
from app.catalog.lifecycle import rfc3339
from app.catalog.model import Model
from app.catalog.ports import Change, Position
from app.store.documents import read_model, read_object
from app.store.opening import Opening
from app.store.tables import catalogue, changes

#: How many ids one statement names.
_BATCH = 500
#: From so many lines on, SQLite reads an index of all of them faster than these lines.
_FAR = 10_000

# Lines of programs before schema 3 have no batch: each is a transaction of its own.
_FIRST = sa.func.coalesce(changes.c.batch, changes.c.revision)
_LINES = sa.select(
    changes.c.revision,
    changes.c.at,
    changes.c.actor,
    changes.c.action,
    _FIRST.label("batch"),
    changes.c.request_id,
    changes.c.model_id,
    changes.c.kid,
    changes.c.before,
    changes.c.after,
)
_HISTORY = _LINES.where(changes.c.model_id.in_(sa.bindparam("ids", expanding=True))).order_by(
    changes.c.model_id, changes.c.revision
)
_REVISION: sa.BindParameter[int] = sa.bindparam("revision")
_CHANGED_IDS = sa.select(changes.c.model_id).where(
    changes.c.revision > _REVISION, changes.c.model_id.is_not(None)
)
# Of many later lines only the index is read: other writers wait for it.
_LAST_CHANGES = sa.select(changes.c.model_id, changes.c.revision, changes.c.actor).where(
    changes.c.revision.in_(
        sa.select(sa.func.max(changes.c.revision))
        .where(
            changes.c.model_id.in_(sa.bindparam("ids", expanding=True)),
            changes.c.revision > _REVISION,
        )
        .group_by(changes.c.model_id)
    )
)
_LINE = _LINES.where(changes.c.revision == _REVISION)
_ACT = sa.select(
    sa.func.max(changes.c.revision),
    *(
        sa.func.count().filter(condition)
        for condition in (
            changes.c.kid.is_(None) & changes.c.before.is_(None),
            changes.c.kid.is_(None) & changes.c.before.is_not(None) & changes.c.after.is_not(None),
            changes.c.kid.is_(None) & changes.c.after.is_(None),
            changes.c.kid.is_not(None),
        )
    ),
).where(changes.c.revision >= _REVISION, changes.c.revision < sa.bindparam("end"))
#: The first line of the next transaction: the lines of one have no others in between.
_NEXT_ACT = (
    sa.select(changes.c.revision)
    .where(changes.c.revision > _REVISION, _FIRST != _REVISION)
    .order_by(changes.c.revision)
    .limit(1)
)
_OF_ACT = (
    sa.select(changes.c.model_id, changes.c.revision, changes.c.before, changes.c.after)
    .where(
        changes.c.revision.between(_REVISION, sa.bindparam("last")),
        changes.c.model_id.is_not(None),
    )
    .order_by(changes.c.revision)
)
_OF_ACT_AND_ENTRY = _OF_ACT.where(changes.c.model_id == sa.bindparam("id"))
_STATE = sa.select(catalogue.c.revision, catalogue.c.mark, catalogue.c.pruned)
_HAS = sa.select(
    sa.exists().where(changes.c.revision == _REVISION, changes.c.mark == sa.bindparam("mark"))
)
_UP_TO = (
    sa.select(changes.c.revision, changes.c.at)
    .where(changes.c.revision <= _REVISION)
    .order_by(changes.c.revision.desc())
    .limit(1)
)
_BEHIND = (
    sa.select(changes.c.revision, changes.c.at)
    .where(changes.c.revision > _REVISION)
    .order_by(changes.c.revision)
    .limit(1)
)


def _last_until(seconds: sa.ColumnElement[int] | sa.BindParameter[int]) -> sa.Select[int]:
    """Return the query for the last line up to a time, even if a clock was wrong at another.

    A line of a clock that was ahead is not the last one: the line after it is of an earlier time.
    """
    after = changes.alias("after")
    # As a value, and not as a condition, it is read for one line after the other.
    following = (
        sa.select(after.c.at).where(after.c.revision == changes.c.revision + 1).scalar_subquery()
    )
    return (
        sa.select(changes.c.revision)
        .where(changes.c.at <= seconds, sa.func.coalesce(following, seconds + 1) > seconds)
        .order_by(changes.c.at.desc(), changes.c.revision.desc())
        .limit(1)
    )


#: The query for the last line up to the time `at` (Unix seconds).
LAST_UNTIL = _last_until(sa.bindparam("at"))


def _first_lines(
    model_id: sa.ColumnElement[str], *conditions: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """Return the query for the first line of each entry after a revision, grouped by `model_id`.

    With it are the revisions of the entries before these lines.
    """
    first = (
        sa.select(sa.func.min(changes.c.revision).label("revision"))
        .where(changes.c.revision > _REVISION, changes.c.model_id.is_not(None), *conditions)
        .group_by(model_id)
        .subquery("first")
    )
    earlier = changes.alias("earlier")
    last = (
        sa.select(sa.func.max(earlier.c.revision))
        .where(earlier.c.model_id == changes.c.model_id, earlier.c.revision <= _REVISION)
        .scalar_subquery()
    )
    return sa.select(changes.c.model_id, changes.c.before, last.label("revision")).join(
        first, first.c.revision == changes.c.revision
    )


_FIRST_LINE = _first_lines(changes.c.model_id, changes.c.model_id == sa.bindparam("id"))
_FIRST_LINES_FAR = _first_lines(changes.c.model_id)
# Grouped by an expression, SQLite does not read the index on the column, which is of all lines.
_FIRST_LINES_NEAR = _first_lines(changes.c.model_id.concat(sa.literal_column("''")))


class Log:
    """The `Log` of ``app.catalog.ports``, of the database of `opening`."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    def setters(self, ids: Sequence[str], source: str) -> dict[str, Setters]:
        """Return by id who has set the fields of these entries: see `read_lines`."""
        found = dict.fromkeys(ids, Setters())
        with self._opening.reading() as connection:
            for first in range(0, len(ids), _BATCH):
                some = {"ids": ids[first : first + _BATCH]}
                rows = connection.execution_options(yield_per=_BATCH).execute(_HISTORY, some)
                for model_id, lines in groupby(map(_line, rows), attrgetter("model_id")):
                    found[model_id] = read_lines(lines, source)
        return found

    def ids_changed_since(self, revision: int) -> set[str]:
        """Return the ids of the entries that the log changes after `revision`."""
        with self._opening.reading() as connection:
            _check_begin(connection, revision)
            return {*connection.execute(_CHANGED_IDS, {"revision": revision}).scalars()}

    def last_changes(self, ids: Sequence[str], after: int) -> dict[str, tuple[int, str]]:
        """Return by id revision and actor of the last change after the revision `after`."""
        found: dict[str, tuple[int, str]] = {}
        with self._opening.reading() as connection:
            for first in range(0, len(ids), _BATCH):
                some = {"ids": ids[first : first + _BATCH], "revision": after}
                for model_id, *change in connection.execute(_LAST_CHANGES, some):
                    found[model_id] = tuple(change)
        return found

    def lines(self, selection: LogFilter, limit: int) -> list[Line]:
        """Return the first `limit` lines that `selection` asks for, newest first."""
        model, actor, since, until, batch, after, of_entries = selection
        if "\0" in f"{model}{actor}":  # none has one, and psycopg refuses to send it
            return []
        query = _LINES.order_by(changes.c.revision.desc()).limit(limit)
        if model is not None:
            query = query.where(changes.c.model_id == model)
        if actor is not None:
            query = query.where(changes.c.actor == actor)
        if batch is not None:
            query = query.where(sa.literal(batch) == _FIRST, changes.c.revision >= batch)
        if batch is not None and after is None:  # else the search begins at a line of the act
            end = sa.select(_NEXT_ACT.subquery().c.revision).scalar_subquery()
            query = query.where(sa.or_(end.is_(None), changes.c.revision < end))
        if after is not None:
            query = query.where(changes.c.revision < after)
        if of_entries:
            query = query.where(changes.c.model_id.is_not(None))
        if since is not None:
            last = _last_until(sa.literal(since - 1)).scalar_subquery()
            query = query.where(changes.c.revision > sa.func.coalesce(last, 0))
        if until is not None:
            last = _last_until(sa.literal(until - 1)).scalar_subquery()
            query = query.where(changes.c.revision <= sa.func.coalesce(last, 0))
        self._opening.open()
        with self._opening.reading() as connection:
            return [*map(_line, connection.execute(query, {"revision": batch}))]

    def act(self, revision: int) -> Act | None:
        """Return the act that has this revision, None if no line has."""
        self._opening.open()
        with self._opening.reading() as connection:
            row = connection.execute(_LINE, {"revision": revision}).one_or_none()
            if row is None:
                _check_begin(connection, revision)
                return None
            line = _line(row)
            batch = line.batch
            end = connection.execute(_NEXT_ACT, {"revision": batch}).scalar()
            if not batch <= revision < (2**63 - 1 if end is None else end):
                # A restored file has lines of other transactions in between: this one is alone.
                batch, end = revision, revision + 1
            last, *counts = connection.execute(
                _ACT, {"revision": batch, "end": 2**63 - 1 if end is None else end}
            ).one()
        return Act(batch, last, line.at, line.actor, line.action, *counts)

    def check_begin(self, revision: int) -> None:
        """Raise `HistoryPruned` if lines after `revision` may have been removed."""
        self._opening.open()
        with self._opening.reading() as connection:
            _check_begin(connection, revision)

    def changes_of(self, act: Act, model_id: str | None = None) -> list[Change]:
        """Return what an act has changed, each entry once, or only one entry.

        Raises `HistoryPruned`.
        """
        if "\0" in (model_id or ""):  # psycopg refuses to send it
            return []
        found: dict[str, Change] = {}
        with self._opening.reading() as connection:
            _check_begin(connection, act.batch - 1)
            of_act = {"revision": act.batch, "last": act.last, "id": model_id}
            query = _OF_ACT if model_id is None else _OF_ACT_AND_ENTRY
            for row in connection.execute(query, of_act):
                before, after = (
                    _model(row.model_id, text, row.revision) for text in (row.before, row.after)
                )
                if row.model_id in found:
                    before = found[row.model_id].before
                found[row.model_id] = Change(before, after)
        return [change for change in found.values() if change != (None, None)]

    def revision_at(self, moment: float) -> int:
        """Return the last revision up to a time (Unix seconds), 0 before the first."""
        self._opening.open()
        with self._opening.reading() as connection:
            state = connection.execute(_STATE).one()
            revision = connection.execute(LAST_UNTIL, {"at": int(moment)}).scalar() or 0
            behind = connection.execute(_BEHIND, {"revision": revision}).first()
        following = state.revision + 1 if behind is None else behind.revision
        if revision >= state.pruned and following != revision + 1:
            raise RevisionUnknown(revision, behind and behind.revision)
        return revision

    def past(
        self, revision: int, position: Position, model_id: str | None = None
    ) -> tuple[int, dict[str, Model | None]]:
        """Return what the catalogue at `position` was at `revision`."""
        self._opening.open()
        with self._opening.reading() as connection:
            state = _check_begin(connection, revision)
            is_logged = (state.revision, state.mark) == position or connection.execute(
                _HAS, position._asdict()
            ).scalar()
            if revision > position.revision or not is_logged:
                raise StoreUnavailable("The entries that were read are not those of the log.")
            of_revision = {"revision": revision}
            line = connection.execute(_UP_TO, of_revision).first()
            behind = connection.execute(_BEHIND, of_revision).first()
            if revision not in (state.revision, line.revision if line else 0):
                raise RevisionUnknown(line.revision if line else 0, behind and behind.revision)
            is_far = state.revision - revision > _FAR
            all_lines = _FIRST_LINES_FAR if is_far else _FIRST_LINES_NEAR
            query = all_lines if model_id is None else _FIRST_LINE
            models = {
                # The line that has made an entry so may be gone: then its revision is not known.
                row.model_id: _model(
                    row.model_id, row.before, max(row.revision or 0, state.pruned)
                )
                for row in connection.execute(query, {"id": model_id, **of_revision})
            }
        known = line or behind
        return known.at if known else 0, models


def _check_begin(connection: sa.Connection, revision: int) -> sa.Row[int, str, int]:
    """Return the state of the catalogue; `HistoryPruned` if the log begins after `revision`."""
    state = connection.execute(_STATE).one()
    if revision < state.pruned:
        first = connection.execute(_UP_TO, {"revision": state.pruned}).first()
        raise HistoryPruned(state.pruned, rfc3339(first.at if first else 0))
    return state


def _line(row: Any) -> Line:
    *facts, before, after = row
    documents = (None if text is None else read_object(text) for text in (before, after))
    return Line(*facts, *documents)


def _model(model_id: str, document: str | None, revision: int) -> Model | None:
    """Return the entry of a document in the log, which may be of a restored file."""
    if document is None:
        return None
    model = read_model(document, revision)
    if model.id != model_id:
        raise StoreUnavailable(f"The log has the entry '{quote(model.id)}' under another id.")
    return model
