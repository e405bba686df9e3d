"""The image that a worker serves from: every entry and key at one revision, read-only."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, is_
from typing import Self

from app.catalog.errors import ModelNotFound
from app.catalog.keys import ApiKey
from app.catalog.lifecycle import as_of, boundaries, is_retired
from app.catalog.model import Model
from app.catalog.ports import Changes, Image, Position
from app.catalog.visibility import Viewer, is_permitted, is_visible

_ID = attrgetter("id")


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The viewers that see the same entries, and these entries in order.

    Each state of the catalogue has its own audiences: equal is only the very same one. `viewer`
    is the one that was met first, and names the audience from one state to the next.
    """

    viewer: Viewer
    models: Sequence[Model]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All entries and keys at `position`, with what was computed from them.

    Entries come, go and become deprecated by date without anybody writing, so a snapshot also
    belongs to a stretch of time, from `since` to before `until`, in which nothing does.
    """

    position: Position
    #: In order of id, code point order.
    models: Sequence[Model]
    by_id: Mapping[str, Model] = field(repr=False)
    keys_by_digest: Mapping[str, ApiKey] = field(repr=False)
    #: Every moment at which some entry appears, changes or disappears, in order; Unix seconds.
    turns: Sequence[float] = field(repr=False)
    since: float
    until: float
    _audiences: dict[Viewer, Audience] = field(default_factory=dict, repr=False, compare=False)
    #: What the snapshot before knew of its audiences, and the ids that differ since.
    _before: tuple[Mapping[Viewer, Audience], frozenset[str]] = field(
        default=({}, frozenset()), repr=False, compare=False
    )

    @classmethod
    def of(cls, image: Image, now: float) -> Self:
        """Return the snapshot of everything in `image`."""
        turns = sorted({moment for model in image.models for moment in boundaries(model)})
        since, until = _stretch(turns, now)
        models = [as_of(model, since) for model in image.models]
        return cls(
            position=Position(image.revision, image.lineage),
            models=sorted(models, key=_ID),
            by_id={model.id: model for model in models},
            keys_by_digest={key.digest: key for key in image.keys},
            turns=turns,
            since=since,
            until=until,
        )

    @property
    def revision(self) -> int:
        """Return the last change that is in it."""
        return self.position.revision

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
        turns = self.turns
        if dated:
            turns = sorted({moment for model in by_id.values() for moment in boundaries(model)})
        since, until = _stretch(turns, now)
        written = {i: model and as_of(model, since) for i, model in changes.models.items()}
        aged = _aged(self.models, since) if since != self.since else {}
        latest = {**aged, **written}
        by_id.update({model.id: model for model in latest.values() if model is not None})
        audiences: Mapping[Viewer, Audience] = {}
        changed = frozenset(written)
        if (since, until) == (self.since, self.until):
            # Where nobody has asked since the last change, what was known before it still helps.
            audiences = self._audiences or self._before[0]
            changed |= frozenset() if self._audiences else self._before[1]
        return replace(
            self,
            position=self.position._replace(revision=changes.revision),
            models=_patched(self.models, latest),
            by_id=by_id,
            keys_by_digest={**self.keys_by_digest, **fresh},
            turns=turns,
            since=since,
            until=until,
            _audiences={},
            _before=(audiences, changed),
        )

    def turn(self, now: float) -> Self:
        """Return the same entries for the stretch of time around `now`."""
        since, until = _stretch(self.turns, now)
        aged = _aged(self.models, since)
        return replace(
            self,
            models=_patched(self.models, aged),
            by_id={**self.by_id, **aged},
            since=since,
            until=until,
            _audiences={},
            _before=({}, frozenset()),
        )

    def covers(self, now: float) -> bool:
        """Tell whether no entry has come, gone or changed by date since the snapshot's making."""
        return self.since <= now < self.until

    def audience(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        audience = self._audiences.get(viewer)
        if audience is None:
            known = tuple(self._audiences.values())
            audiences, changed = self._before
            if (before := audiences.get(viewer)) is None:
                models: Sequence[Model] = [m for m in self.models if self._sees(viewer, m)]
            else:
                models = _patched(before.models, {i: self._seen(viewer, i) for i in changed})
                # Most changes are none of this viewer's. An audience goes by the name of one of
                # its viewers, who decides what becomes of it: else two would have one name.
                led = before.viewer == viewer
                known = (before if led else self.audience(before.viewer), *known)
            # Those that see the same share one audience, and with it what is made for it.
            same = next((known for known in known if _are_same(known.models, models)), None)
            # Two threads may come here at once: both take what the first one found.
            audience = self._audiences.setdefault(viewer, same or Audience(viewer, models))
        return audience

    def _seen(self, viewer: Viewer, model_id: str) -> Model | None:
        model = self.by_id.get(model_id)
        return model if model is not None and self._sees(viewer, model) else None

    def _sees(self, viewer: Viewer, model: Model) -> bool:
        # Any moment of the stretch tells the same; before the first turn, none has come.
        return is_visible(model, viewer, self.since)

    def find(self, model_id: str, viewer: Viewer) -> Model:
        """Return the entry with this id if `viewer` sees it, else raise `ModelNotFound`.

        Hidden is the same as unknown. Only a retired entry that the viewer could see before
        names its replacement, if the viewer sees that one.
        """
        model = self.by_id.get(model_id)
        if model is None:
            raise ModelNotFound(model_id)
        if self._sees(viewer, model):
            return model
        replacement = self.by_id.get(model.deprecation_replacement_model or "")
        if (
            replacement is not None
            and is_retired(model, self.since)
            and is_permitted(model, viewer)
            and self._sees(viewer, replacement)
        ):
            raise ModelNotFound(model_id, replacement.id)
        raise ModelNotFound(model_id)

    @property
    def keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        return sorted(self.keys_by_digest.values(), key=lambda key: (key.created, key.kid))


def _are_same(some: Sequence[Model], others: Sequence[Model]) -> bool:
    """Tell whether these are the same objects: equal ones may differ in bytes, as 1 and 1.0."""
    return len(some) == len(others) and all(map(is_, some, others))


def _patched(models: Sequence[Model], changes: Mapping[str, Model | None]) -> Sequence[Model]:
    """Return `models`, ordered by id, with each of `changes` put in, replaced or taken out."""
    if len(changes) > len(models) // 10:
        kept = [model for model in models if model.id not in changes]
        return sorted([*kept, *filter(None, changes.values())], key=_ID)
    patched = list(models)
    for model_id, model in changes.items():
        place = bisect_left(patched, model_id, key=_ID)
        there = place < len(patched) and patched[place].id == model_id
        patched[place : place + there] = [] if model is None else [model]
    return patched


def _aged(models: Iterable[Model], now: float) -> dict[str, Model]:
    """Return those of `models` that are another at `now`; only what was made of them is stale."""
    return {model.id: aged for model in models if (aged := as_of(model, now)) is not model}


def _stretch(turns: Sequence[float], now: float) -> tuple[float, float]:
    place = bisect_right(turns, now)
    since = turns[place - 1] if place else float("-inf")
    until = turns[place] if place < len(turns) else float("inf")
    return since, until
