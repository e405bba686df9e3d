"""Removing old lines of the log, in transactions so short that writers hardly wait."""

from array import array
from collections.abc import Iterator
from functools import partial
from itertools import groupby, islice
from math import ceil
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.catalog.history import Line, deciding
from app.store.documents import read_object
from app.store.log import LAST_UNTIL
from app.store.opening import Opening
from app.store.schema import HEAD, newer_schema
from app.store.tables import catalogue, changes
from app.store.writing import Writer

#: How many lines are in memory at a time.
_PAGE = 100
#: How many lines one transaction removes: writers wait about 20 ms for it.
_NUMBER = 100
#: What a line takes beside its documents, in the table and in the indexes, in bytes.
_OVERHEAD = 300

#: The revision from which on the log stays complete.
_PRUNED: sa.BindParameter[int] = sa.bindparam("until")
_STATE = sa.select(
    sa.select(sa.func.count()).select_from(changes).scalar_subquery(), catalogue.c.pruned
)
_AT = sa.select(changes.c.at).where(changes.c.revision == _PRUNED)
_PRUNE = (
    sa.update(catalogue)
    .values(pruned=sa.case((catalogue.c.pruned < _PRUNED, _PRUNED), else_=catalogue.c.pruned))
    .returning(catalogue.c.oldest_schema)
)
_REMOVE = sa.delete(changes).where(
    changes.c.revision.in_(sa.bindparam("revisions", expanding=True))
)
_IS_OLD = changes.c.revision <= _PRUNED
_NEWEST_FIRST = (
    sa.select(
        changes.c.model_id,
        changes.c.revision,
        changes.c.action,
        # Of later lines only the actions count.
        sa.case((_IS_OLD, changes.c.before)).label("before"),
        sa.case((_IS_OLD, changes.c.after)).label("after"),
    )
    .order_by(changes.c.model_id.desc(), changes.c.revision.desc())
    .limit(_PAGE)
)
_LAST: sa.BindParameter[int] = sa.bindparam("last")
_POSITION = sa.tuple_(changes.c.model_id, changes.c.revision)
#: The queries for the first page, and for that behind a line: of keys, and of entries.
_PAGES = tuple(
    (_NEWEST_FIRST.where(which), _NEWEST_FIRST.where(which, behind))
    for which, behind in (
        (changes.c.model_id.is_(None), changes.c.revision < _LAST),
        (changes.c.model_id.is_not(None), sa.tuple_(sa.bindparam("id"), _LAST) > _POSITION),
    )
)


class Removal(NamedTuple):
    """What is removed, or would be."""

    #: How many lines, and of how many.
    lines: int
    of: int
    #: About how many bytes they take.
    size: int
    #: The revision from which on the log stays complete, and its time (Unix seconds).
    revision: int
    at: int


class Pruning:
    """Removes lines from the log of the database of `opening`."""

    def __init__(self, opening: Opening, writer: Writer) -> None:
        self._opening = opening
        self._writer = writer

    def plan(self, before: float) -> Removal:
        """Return what is removed so that the log begins with the last line before a time.

        The time is in Unix seconds. What an interrupted removal has left is a part of it.
        """
        self._opening.open()
        with self._opening.reading() as connection:
            number, pruned = connection.execute(_STATE).one()
            last = connection.execute(LAST_UNTIL, {"at": ceil(before) - 1}).scalar() or 0
            revision = max(pruned, last)
            at = connection.execute(_AT, {"until": revision}).scalar() or 0
        lines = size = 0
        for _, bytes_of_line in self._superfluous(revision):
            lines += 1
            size += bytes_of_line
        return Removal(lines, number, size, revision, at)

    def remove(self, planned: Removal) -> Removal:
        """Remove what `plan` has found, and return what was removed.

        First the catalogue gets the revision from which on the log is complete. If this is
        interrupted then, the database is right, and another call removes the rest.
        """
        with self._writer.connection() as connection:
            oldest = connection.execute(_PRUNE, {"until": planned.revision}).scalar_one()
            if oldest > HEAD:
                raise newer_schema(oldest)
        backend = self._opening.backend
        superfluous = self._superfluous(planned.revision)
        lines = size = 0
        while some := dict(islice(superfluous, _NUMBER)):
            with self._writer.connection() as connection:
                backend.checkpoint_later(connection)
                lines += connection.execute(_REMOVE, {"revisions": [*some]}).rowcount
            with self._opening.outages():
                backend.checkpoint()
            size += sum(some.values())
        return planned._replace(lines=lines, size=size)

    def _superfluous(self, pruned: int) -> Iterator[tuple[int, int]]:
        """Yield revision and bytes of each line to remove, of each entry the oldest first."""
        for _, rows in groupby(self._rows(pruned), attrgetter("model_id")):
            revisions, sizes = array("q"), array("q")
            lines = map(partial(_noted, revisions, sizes), rows)
            unchanged, needed = deciding(lines, pruned)
            for revision, size in zip(reversed(revisions), reversed(sizes), strict=True):
                if revision <= unchanged and revision not in needed:
                    yield revision, size

    def _rows(self, pruned: int) -> Iterator[Any]:
        """Yield all lines by their entries, newest first, each page by a transaction of its own.

        A longer one would prevent that SQLite's write-ahead log begins anew.
        """
        for first, further in _PAGES:
            query, at = first, {"until": pruned}
            while True:
                with self._opening.reading() as connection:
                    page = connection.execute(query, at).all()
                yield from page
                if len(page) < _PAGE:
                    break
                query, at = further, {**at, "id": page[-1].model_id, "last": page[-1].revision}


def _noted(revisions: "array[int]", sizes: "array[int]", row: Any) -> Line:
    """Return the line that a row is; add its revision and its size to these."""
    texts = row.before, row.after
    revisions.append(row.revision)
    sizes.append(sum(len(text or "") for text in texts) + _OVERHEAD)
    documents = (None if text is None else read_object(text) for text in texts)
    return Line(row.revision, 0, "", row.action, 0, None, row.model_id, None, *documents)
