"""Which part of an ordered list is asked for, and that part."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from app.catalog.model import Model

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
        """Tell whether the caller pages, and so wants to know if there is more."""
        return (self.limit, self.after, self.before) != (None, None, None)


#: The whole list.
EVERYTHING = Window()


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


def cut(models: Sequence[Model], window: Window) -> Page:
    """Return the part of `models`, ordered by id, that `window` asks for.

    A cursor that names no entry goes on from its place: an entry removed between two pages
    costs nobody a neighbour.
    """
    if window.owned_by is not None:
        models = [model for model in models if model.owned_by == window.owned_by]
    if window.q is not None:
        q = window.q.casefold()
        models = [m for m in models if q in m.id.casefold() or q in (m.name or "").casefold()]
    start, stop = 0, len(models)
    if window.after is not None:
        start = bisect_right(models, window.after, key=_ID)
    if window.before is not None:
        stop = bisect_left(models, window.before, key=_ID)
    if window.limit is None or stop - start <= window.limit:
        return Page(models[start:stop], has_more=False)
    if window.before is not None:
        return Page(models[stop - window.limit : stop], has_more=True)
    return Page(models[start : start + window.limit], has_more=True)
