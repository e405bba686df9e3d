"""What a worker serves from: all entries and keys at one revision. No snapshot ever changes."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any, Self

from app.catalog.audiences import Audiences
from app.catalog.errors import ModelNotFound
from app.catalog.index import Index, changed_index
from app.catalog.keys import ApiKey
from app.catalog.lifecycle import boundaries_of, is_live, is_retired, with_deprecation
from app.catalog.model import Access, Model
from app.catalog.ordered import OrderedModels
from app.catalog.ports import Changes, Position, StoredCatalog
from app.catalog.visibility import (
    Viewer,
    effective_rule,
    is_permitted,
    is_visible,
    named_by,
    with_references,
)

_ID = attrgetter("id")
_MOMENT = itemgetter(0)

#: A moment (Unix seconds) at which an entry appears, changes or disappears, and its id.
_Boundary = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All entries and keys at `position`, with what was computed from them.

    Entries appear, disappear and become deprecated by date, without a write. So a snapshot is
    valid from `since` to before `until`, the nearest boundaries.
    """

    position: Position
    #: In order of id, code point order.
    models: OrderedModels
    keys_by_digest: Mapping[str, ApiKey] = field(repr=False)
    #: The boundaries of all entries, in order.
    boundaries: Sequence[_Boundary] = field(repr=False)
    #: By an id, whether or not there is such an entry, the ids of the entries that name it.
    referrers: Index[str, str] = field(repr=False)
    since: float
    until: float
    audiences: Audiences = field(repr=False, compare=False)

    @classmethod
    def of(cls, stored: StoredCatalog, now: float) -> Self:
        """Return the snapshot of `stored` at `now` (Unix seconds)."""
        boundaries = sorted(_boundaries_of(stored.models))
        since, until = _validity(boundaries, now)
        by_id = {model.id: with_deprecation(model, since) for model in stored.models}
        resolved = (with_references(model, by_id.get, since) for model in by_id.values())
        models = OrderedModels(sorted(resolved, key=_ID))
        return cls(
            position=Position(stored.revision, stored.mark),
            models=models,
            keys_by_digest={key.digest: key for key in stored.keys},
            boundaries=boundaries,
            referrers=changed_index({}, added=named_by(models)),
            since=since,
            until=until,
            audiences=Audiences.of(model for model in models if is_live(model, since)),
        )

    @property
    def revision(self) -> int:
        """Return the number of the last change in it."""
        return self.position.revision

    @property
    def keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        return sorted(self.keys_by_digest.values(), key=lambda key: (key.created, key.kid))

    def get(self, model_id: str) -> Model | None:
        """Return the entry with this id, hidden or not."""
        return self.models.get(model_id)

    def at(self, now: float) -> Self:
        """Return the snapshot of the same entries that is valid at `now` (Unix seconds)."""
        return self if self.since <= now < self.until else self._changed({}, now)

    def apply(self, changes: Changes, now: float) -> Self:
        """Return the snapshot after `changes`; it shares with this one what they do not change."""
        boundaries = self.boundaries
        old = [*filter(None, map(self.get, changes.models))]
        new = [*filter(None, changes.models.values())]
        before, after = _boundaries_of(old), _boundaries_of(new)
        if len(before) + len(after) > len(boundaries) // 10:
            boundaries = sorted({*boundaries} - before | after)
        elif before != after:
            boundaries = list(boundaries)
            for boundary in before:
                del boundaries[bisect_left(boundaries, boundary)]
            for boundary in after:
                insort(boundaries, boundary)
        keys = {key.digest: key for key in changes.keys.values()}
        return self._changed(
            changes.models,
            now,
            position=Position(changes.revision, changes.mark),
            keys_by_digest={**self.keys_by_digest, **keys} if keys else self.keys_by_digest,
            boundaries=boundaries,
            referrers=changed_index(self.referrers, removed=named_by(old), added=named_by(new)),
        )

    def _changed(self, written: Mapping[str, Model | None], now: float, **fields: Any) -> Self:
        """Return the snapshot at `now` with these `fields`, and with entries as in `written`."""
        new = replace(self, **fields)
        since, until = _validity(new.boundaries, now)
        first, last = sorted((self.since, since))
        begin = bisect_right(new.boundaries, first, key=_MOMENT)
        passed = new.boundaries[begin : bisect_right(new.boundaries, last, begin, key=_MOMENT)]
        changed = {model_id: self.get(model_id) for _, model_id in passed} | dict(written)
        latest = {i: model and with_deprecation(model, since) for i, model in changed.items()}
        latest |= self._resolved(latest, new.referrers, since)
        groups = self._regrouped(latest, since)
        return replace(
            new,
            models=self.models.changed(latest) if latest else self.models,
            since=since,
            until=until,
            audiences=self.audiences.changed(groups) if groups else self.audiences,
        )

    def _resolved(
        self,
        latest: Mapping[str, Model | None],
        referrers: Index[str, str],
        since: float,
    ) -> Mapping[str, Model]:
        """Return the entries whose `references` differ once entries are as in `latest`."""

        def find(model_id: str) -> Model | None:
            return latest[model_id] if model_id in latest else self.get(model_id)

        affected = set(latest)
        for model_id in latest.keys() & referrers.keys():
            before = effective_rule(self.get(model_id), self.since)
            if before != effective_rule(latest[model_id], since):
                affected |= referrers[model_id]
        resolved = {}
        for model_id in affected:
            model = find(model_id)
            if model is not None and (other := with_references(model, find, since)) is not model:
                resolved[model_id] = other
        return resolved

    def _regrouped(
        self, latest: Mapping[str, Model | None], since: float
    ) -> Mapping[Access, Mapping[str, Model | None]]:
        """Return by access which live entries are new, changed or, where None, no longer live."""
        changes: defaultdict[Access, dict[str, Model | None]] = defaultdict(dict)
        for model_id, model in latest.items():
            before = self.get(model_id)
            if before is not None and is_live(before, self.since):
                changes[before.access][model_id] = None
            if model is not None and is_live(model, since):
                changes[model.access][model_id] = model
        return changes

    def find(self, model_id: str, viewer: Viewer) -> Model:
        """Return the entry with this id if `viewer` sees it, else raise `ModelNotFound`.

        A hidden entry is the same as an unknown one. Only the error for a retired entry that
        `viewer` saw before names its replacement, if `viewer` sees that entry.
        """
        model = self.get(model_id)
        if model is None:
            raise ModelNotFound(model_id)
        # From `since` to `until` the answer is the same.
        if is_visible(model, viewer, self.since):
            return model
        replacement = self.get(model.deprecation_replacement_model or "")
        if (
            replacement is not None
            and is_retired(model, self.since)
            and is_permitted(model.rule, viewer)
            and is_visible(replacement, viewer, self.since)
        ):
            raise ModelNotFound(model_id, replacement.id)
        raise ModelNotFound(model_id)


def _boundaries_of(models: Iterable[Model]) -> set[_Boundary]:
    return {(moment, model.id) for model in models for moment in boundaries_of(model)}


def _validity(boundaries: Sequence[_Boundary], now: float) -> tuple[float, float]:
    """Return the last boundary up to `now`, and the first one after it."""
    index = bisect_right(boundaries, now, key=_MOMENT)
    since = boundaries[index - 1][0] if index else float("-inf")
    until = boundaries[index][0] if index < len(boundaries) else float("inf")
    return since, until
