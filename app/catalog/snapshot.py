"""The image that a worker serves from: every entry and key at one revision, read-only."""

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Self

from app.catalog.errors import ModelNotFound
from app.catalog.keys import ApiKey
from app.catalog.lifecycle import boundaries, is_retired
from app.catalog.model import Model
from app.catalog.ports import Changes, Image
from app.catalog.visibility import Viewer, is_permitted, is_visible


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for.

    At most `limit` entries behind the id `after`, of those that `owned_by` owns and whose id or
    name contains `q` in any case; None asks for everything.
    """

    limit: int | None = None
    after: str | None = None
    owned_by: str | None = None
    q: str | None = None

    @property
    def is_page(self) -> bool:
        """Tell whether the caller pages, and so wants to know if there is more."""
        return self.limit is not None or self.after is not None


#: The whole list.
EVERYTHING = Window()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, in order, and whether there is more behind it."""

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
    start = 0
    if window.after is not None:
        start = bisect_right(models, window.after, key=attrgetter("id"))
    stop = len(models) if window.limit is None else start + window.limit
    return Page(models[start:stop], has_more=stop < len(models))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All entries and keys at `revision`, with what was computed from them.

    Entries come and go by date without anybody writing, so a snapshot also belongs to a stretch
    of time, from `since` to before `until`, in which nothing does. `bodies` holds what the
    dialects made of it, and is dropped with it.
    """

    revision: int
    #: In order of id, code point order.
    models: Sequence[Model]
    by_id: Mapping[str, Model] = field(repr=False)
    keys_by_digest: Mapping[str, ApiKey] = field(repr=False)
    #: Every moment at which some entry appears or disappears, in order; Unix seconds.
    turns: Sequence[float] = field(repr=False)
    since: float
    until: float
    bodies: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _visible: dict[Viewer, tuple[Model, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, image: Image, now: float) -> Self:
        """Return the snapshot of everything in `image`."""
        return cls._build(
            revision=image.revision,
            by_id={model.id: model for model in image.models},
            keys_by_digest={key.digest: key for key in image.keys},
            turns=None,
            now=now,
        )

    @classmethod
    def _build(
        cls,
        *,
        revision: int,
        by_id: dict[str, Model],
        keys_by_digest: Mapping[str, ApiKey],
        turns: Sequence[float] | None,
        now: float,
    ) -> Self:
        if turns is None:
            turns = sorted({moment for model in by_id.values() for moment in boundaries(model)})
        since, until = _stretch(turns, now)
        return cls(
            revision=revision,
            models=sorted(by_id.values(), key=attrgetter("id")),
            by_id=by_id,
            keys_by_digest=keys_by_digest,
            turns=turns,
            since=since,
            until=until,
        )

    def apply(self, changes: Changes, now: float) -> Self:
        """Return the snapshot after `changes`; only what changed is looked at."""
        by_id = dict(self.by_id)
        dated = False
        for model_id, model in changes.models.items():
            before = by_id.pop(model_id, None)
            if model is not None:
                by_id[model_id] = model
            dated = dated or any(m and list(boundaries(m)) for m in (before, model))
        fresh = {key.digest: key for key in changes.keys.values()}
        return self._build(
            revision=changes.revision,
            by_id=by_id,
            keys_by_digest={**self.keys_by_digest, **fresh},
            turns=None if dated else self.turns,
            now=now,
        )

    def turn(self, now: float) -> Self:
        """Return the same entries for the stretch of time around `now`."""
        return self._build(
            revision=self.revision,
            by_id=dict(self.by_id),
            keys_by_digest=self.keys_by_digest,
            turns=self.turns,
            now=now,
        )

    def covers(self, now: float) -> bool:
        """Tell whether no entry has come or gone between the snapshot's making and `now`."""
        return self.since <= now < self.until

    def visible_to(self, viewer: Viewer) -> Sequence[Model]:
        """Return the entries that `viewer` sees, in order."""
        visible = self._visible.get(viewer)
        if visible is None:
            visible = tuple(m for m in self.models if is_visible(m, viewer, self._moment))
            self._visible[viewer] = visible
        return visible

    def find(self, model_id: str, viewer: Viewer) -> Model:
        """Return the entry with this id if `viewer` sees it, else raise `ModelNotFound`.

        Hidden is the same as unknown. Only a retired entry that the viewer could see before
        names its replacement, if the viewer sees that one.
        """
        model = self.by_id.get(model_id)
        if model is None:
            raise ModelNotFound(model_id)
        if is_visible(model, viewer, self._moment):
            return model
        replacement = self.by_id.get(model.deprecation_replacement_model or "")
        if (
            replacement is not None
            and is_retired(model, self._moment)
            and is_permitted(model, viewer)
            and is_visible(replacement, viewer, self._moment)
        ):
            raise ModelNotFound(model_id, replacement.id)
        raise ModelNotFound(model_id)

    @property
    def keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        return sorted(self.keys_by_digest.values(), key=lambda key: (key.created, key.kid))

    @property
    def _moment(self) -> float:
        # Any moment of the stretch tells the same; before the first turn, none has come.
        return self.since


def _stretch(turns: Sequence[float], now: float) -> tuple[float, float]:
    place = bisect_right(turns, now)
    since = turns[place - 1] if place else float("-inf")
    until = turns[place] if place < len(turns) else float("inf")
    return since, until
