"""Which part of an ordered list is asked for, and that part.

A list comes as one or several that are in order of id each: what a viewer sees is several such
lists, and nobody merges all of them to answer with a few entries.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from app.catalog.model import Model
from app.catalog.ordered import OrderedModels

_ID = attrgetter("id")


class Window(NamedTuple):
    """Which part of a list is asked for.

    At most `limit` entries behind the id `after`, or just before the id `before`, of those that
    `owned_by` owns and whose id or name contains `q` in any case; None asks for everything.
    """

    limit: int | None = None
    after: str | None = None
    before: str | None = None
    owned_by: str | None = None
    q: str | None = None

    @property
    def is_filtered(self) -> bool:
        """Tell whether entries are chosen by what they are, and not by their place alone."""
        return self.owned_by is not None or self.q is not None

    @property
    def is_page(self) -> bool:
        """Tell whether a part is asked for, so that the caller wants to know if there is more."""
        return self != EVERYTHING


#: The whole list.
EVERYTHING = Window()


#: Where a page lies in a list: the index of its first entry, the index behind its last one, and
#: whether there is more; an empty page is at 0, 0. A cache names a page by this and not by the
#: cursor: there are as many cursors as texts, and only as many places as pairs of entries.
Place = tuple[int, int, bool]  # a named tuple takes as long as everything else that finds it


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, in order, and whether there is more in the direction of the walk."""

    models: Sequence[Model]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """Return the id of the first entry, None when there is none."""
        return self.models[0].id if self.models else None

    @property
    def last_id(self) -> str | None:
        """Return the id of the last entry, None when there is none."""
        return self.models[-1].id if self.models else None


def locate(lists: Sequence[OrderedModels], window: Window) -> Place:
    """Return where the page lies that `window`, which does not filter, cuts from `lists`."""
    limit, after, before, _, _ = window
    start = stop = 0
    for models in lists:
        stop += len(models)
    if after is not None or before is not None:
        bounds = [_bounds(models, window) for models in lists]
        start, stop = sum(first for first, _ in bounds), sum(last for _, last in bounds)
    if start == stop:
        return 0, 0, False
    if limit is None or stop - start <= limit:
        return start, stop, False
    return (start, start + limit, True) if before is None else (stop - limit, stop, True)


def cut(lists: Sequence[OrderedModels], window: Window) -> Page:
    """Return the part of `lists` that `window` asks for.

    A cursor that names no entry goes on from its place: an entry removed between two pages
    costs nobody a neighbour.
    """
    parts = [_part(models, window) for models in lists]
    models = parts[0] if len(parts) == 1 else sorted(chain.from_iterable(parts), key=_ID)
    if window.limit is None or len(models) <= window.limit:
        return Page(models, has_more=False)
    if window.before is not None:
        return Page(models[-window.limit :], has_more=True)
    return Page(models[: window.limit], has_more=True)


def _part(models: OrderedModels, window: Window) -> Sequence[Model]:
    """Return the entries of one list that may be on the page, one more than its limit at most."""
    start, stop = _bounds(models, window)
    most = None if window.limit is None else window.limit + 1
    if window.is_filtered:
        q = None if window.q is None else window.q.casefold()
        found = models.matching(start, stop, owned_by=window.owned_by, q=q)
        if most is None or window.before is None:
            return list(islice(found, most))
        return list(deque(found, most))
    if most is not None and window.before is not None:
        start = max(start, stop - most)
    elif most is not None:
        stop = min(stop, start + most)
    return models[start:stop]


def _bounds(models: OrderedModels, window: Window) -> tuple[int, int]:
    """Return the indexes of one list between which the cursors let entries be on the page."""
    start, stop = 0, len(models)
    if window.after is not None:
        start = bisect_right(models, window.after, key=_ID)
    if window.before is not None:
        stop = max(start, bisect_left(models, window.before, key=_ID))
    return start, stop
