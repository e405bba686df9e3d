"""Pages: which part of a list is asked for, and that part.

What a viewer sees is several lists, each in order of id. To merge all of them for a page of a
few entries would take too long: a page takes what it needs of each. Or it is one list, of which
the page takes the entries that have one of some rules.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from app.catalog.model import Model, Rule
from app.catalog.ordered import OrderedModels

_ID = attrgetter("id")

#: The largest page that a caller may ask for, in entries.
MAX_LIMIT = 1000


class Window(NamedTuple):
    """Which part of a list is asked for.

    At most `limit` entries after the id `after`, or just before the id `before`; of those that
    `owned_by` owns, and whose id, name or aliases contain `q` in any case. None does not restrict.
    """

    limit: int | None = None
    after: str | None = None
    before: str | None = None
    owned_by: str | None = None
    q: str | None = None

    @property
    def is_filtered(self) -> bool:
        """Return whether a filter, and not only the order of ids, selects the entries."""
        return self.owned_by is not None or self.q is not None


#: The whole list.
EVERYTHING = Window()
#: The first page, of the largest size.
FIRST_PAGE = Window(limit=MAX_LIMIT)


#: A page as a range of indexes, from `start` to before `stop`, and whether there is more; 0 and 0
#: for an empty page. Caches identify a page by its span and not by its cursor: a caller can make
#: up any number of cursors, and most of them lead to the same page.
Span = tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, in order, and whether there is more in the direction of paging."""

    models: Sequence[Model]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """Return the id of the first entry, None for an empty page."""
        return self.models[0].id if self.models else None

    @property
    def last_id(self) -> str | None:
        """Return the id of the last entry, None for an empty page."""
        return self.models[-1].id if self.models else None


def find_span(start: int, stop: int, window: Window) -> Span:
    """Return the span of the page of `window`, which does not filter, within its `bounds`."""
    limit = window.limit
    if start == stop:
        return 0, 0, False
    if limit is None or stop - start <= limit:
        return start, stop, False
    if window.before is None:
        return start, start + limit, True
    return stop - limit, stop, True


def bounds(lists: Sequence[OrderedModels], window: Window) -> tuple[int, int]:
    """Return the indexes of the whole list between which the cursors of `window` lie."""
    each = [_bounds(models, window) for models in lists]
    return sum(start for start, _ in each), sum(stop for _, stop in each)


def cut(
    lists: Sequence[OrderedModels],
    window: Window,
    rules: Set[Rule] | None = None,
    accepts: Callable[[Model], bool] | None = None,
) -> Page:
    """Return the page of `lists` that `window` asks for.

    Its entries have one of `rules`, and `accepts` returns true for them; None is no condition. A
    cursor need not be the id of an entry. So nobody misses an entry because another one was
    removed between two pages.
    """
    parts = [_part(models, window, rules, accepts) for models in lists]
    models = parts[0] if len(parts) == 1 else sorted(chain.from_iterable(parts), key=_ID)
    if window.limit is None or len(models) <= window.limit:
        return Page(models, has_more=False)
    if window.before is not None:
        return Page(models[-window.limit :], has_more=True)
    return Page(models[: window.limit], has_more=True)


def _part(
    models: OrderedModels,
    window: Window,
    rules: Set[Rule] | None,
    accepts: Callable[[Model], bool] | None,
) -> Sequence[Model]:
    """Return the entries of one list that may be on the page, at most its limit and one more."""
    start, stop = _bounds(models, window)
    most = None if window.limit is None else window.limit + 1
    if window.is_filtered or rules is not None or accepts is not None:
        q = None if window.q is None else window.q.casefold()
        backwards = window.before is not None
        found = models.matching(
            start, stop, owned_by=window.owned_by, q=q, rules=rules, backwards=backwards
        )
        if accepts is not None:
            found = filter(accepts, found)
        return list(islice(found, most))[:: -1 if backwards else 1]
    if most is not None and window.before is not None:
        start = max(start, stop - most)
    elif most is not None:
        stop = min(stop, start + most)
    return models[start:stop]


def _bounds(models: OrderedModels, window: Window) -> tuple[int, int]:
    """Return the indexes of one list between which the cursors of `window` lie."""
    start, stop = 0, len(models)
    if window.after is not None:
        start = bisect_right(models, window.after, key=_ID)
    if window.before is not None:
        stop = max(start, bisect_left(models, window.before, key=_ID))
    return start, stop
