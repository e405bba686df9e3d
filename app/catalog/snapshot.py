"""What a worker serves from: all entries and keys at one revision. No snapshot ever changes."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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

#: The most replacements in a row. A write follows the way from its own entry while other writers
#: wait; a way may still grow longer at its end.
MAX_CHAIN = 100
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
    #: By a name, whether or not it is that of an entry, the ids of the entries that name it.
    referrers: Index[str, str] = field(repr=False)
    #: By alias the ids of the entries that have it. An older program may add an entry whose id is
    #: an alias: then that entry counts. Of several entries with one alias, the first one counts.
    by_alias: Index[str, str] = field(repr=False)
    since: float
    until: float
    audiences: Audiences = field(repr=False, compare=False)

    @classmethod
    def of(cls, stored: StoredCatalog, now: float) -> Self:
        """Return the snapshot of `stored` at `now` (Unix seconds)."""
        boundaries = sorted(_boundaries_of(stored.models))
        since, until = _validity(boundaries, now)
        by_id = {model.id: with_deprecation(model, since) for model in stored.models}
        by_alias = changed_index({}, added=_aliases_of(stored.models))
        find = partial(_find, get=by_id.get, by_alias=by_alias)
        resolved = {i: with_references(model, find, since) for i, model in by_id.items()}
        models = OrderedModels(sorted(resolved.values(), key=_ID))
        names = (alias for alias in by_alias if alias not in by_id)
        aliases = (_item(alias, resolved.get, by_alias, since) for alias in names)
        live = [*(m for m in models if is_live(m, since)), *filter(None, aliases)]
        return cls(
            position=Position(stored.revision, stored.mark),
            models=models,
            keys_by_digest={key.digest: key for key in stored.keys},
            boundaries=boundaries,
            referrers=changed_index({}, added=named_by(models)),
            by_alias=by_alias,
            since=since,
            until=until,
            audiences=Audiences.of(sorted(live, key=_ID)),
        )

    @property
    def revision(self) -> int:
        """Return the number of the last change in it."""
        return self.position.revision

    @property
    def keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        return sorted(self.keys_by_digest.values(), key=lambda key: (key.created, key.kid))

    def get(self, name: str) -> Model | None:
        """Return the entry with this id or alias, hidden or not."""
        return _find(name, self.models.get, self.by_alias)

    def at(self, now: float) -> Self:
        """Return the snapshot of the same entries that is valid at `now` (Unix seconds)."""
        return self if self.since <= now < self.until else self._changed({}, now)

    def apply(self, changes: Changes, now: float) -> Self:
        """Return the snapshot after `changes`; it shares with this one what they do not change."""
        boundaries = self.boundaries
        old = [*filter(None, map(self.models.get, changes.models))]
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
            by_alias=changed_index(
                self.by_alias, removed=_aliases_of(old), added=_aliases_of(new)
            ),
        )

    def _changed(self, written: Mapping[str, Model | None], now: float, **fields: Any) -> Self:
        """Return the snapshot at `now` with these `fields`, and with entries as in `written`."""
        new = replace(self, **fields)
        since, until = _validity(new.boundaries, now)
        first, last = sorted((self.since, since))
        begin = bisect_right(new.boundaries, first, key=_MOMENT)
        passed = new.boundaries[begin : bisect_right(new.boundaries, last, begin, key=_MOMENT)]
        changed = {i: self.models.get(i) for _, i in passed} | dict(written)
        latest = {i: model and with_deprecation(model, since) for i, model in changed.items()}
        latest |= self._resolved(latest, new, since)
        new = replace(
            new,
            models=self.models.changed(latest) if latest else self.models,
            since=since,
            until=until,
        )
        groups = self._regrouped(latest, new)
        return replace(new, audiences=self.audiences.changed(groups)) if groups else new

    def _ids(self, latest: Mapping[str, Model | None]) -> set[str]:
        """Return the names that these entries, by id, have before and after the change."""
        old = map(self.models.get, latest)
        return {name for model in (*old, *latest.values()) if model for name in model.ids}

    def _resolved(
        self, latest: Mapping[str, Model | None], new: Self, since: float
    ) -> Mapping[str, Model]:
        """Return the entries whose `references` differ once entries are as in `latest`."""

        def get(model_id: str) -> Model | None:
            return latest[model_id] if model_id in latest else self.models.get(model_id)

        find = partial(_find, get=get, by_alias=new.by_alias)
        affected = set(latest)
        for name in self._ids(latest) & new.referrers.keys():
            if effective_rule(self.get(name), self.since) != effective_rule(find(name), since):
                affected |= new.referrers[name]
        resolved = {}
        for model_id in affected:
            model = get(model_id)
            if model is not None and (other := with_references(model, find, since)) is not model:
                resolved[model_id] = other
        return resolved

    def _regrouped(
        self, latest: Mapping[str, Model | None], new: Self
    ) -> Mapping[Access, Mapping[str, Model | None]]:
        """Return by access which items of lists are new, changed or, where None, removed."""
        changes: defaultdict[Access, dict[str, Model | None]] = defaultdict(dict)
        for name in self._ids(latest):
            before = self.audiences.live.get(name)
            after = _item(name, new.models.get, new.by_alias, new.since)
            if before is not None:
                changes[before.access][name] = None
            if after is not None:
                changes[after.access][name] = after
        return changes

    def find(self, name: str, viewer: Viewer, tag: str = "") -> Model:
        """Return what `viewer` retrieves by an id or alias, or raise `ModelNotFound`.

        It is what lists show under this name or, for an alias that they do not show, the entry.
        What is hidden is the same as what is unknown. Only the error for a retired entry that
        `viewer` saw before names its replacement: see `_replacement`.

        A `name` that ends with `tag`, and is that of no such model, is the name without it.
        """
        try:
            return self._find(name, viewer)
        except ModelNotFound as error:
            if not tag or not name.endswith(tag) or error.replacement is not None:
                raise
        try:
            return self._find(name.removesuffix(tag), viewer)
        except ModelNotFound as error:
            raise ModelNotFound(name, error.replacement) from None

    def _find(self, name: str, viewer: Viewer) -> Model:
        model = self.audiences.live.get(name) or self.get(name)
        if model is None:
            raise ModelNotFound(name)
        # From `since` to `until` the answer is the same.
        if is_visible(model, viewer, self.since):
            return model
        if is_retired(model, self.since) and is_permitted(model.rule, viewer):
            raise ModelNotFound(name, self._replacement(model, viewer))
        raise ModelNotFound(name)

    def _replacement(self, model: Model, viewer: Viewer) -> str | None:
        """Return the name of the last entry that replaces `model` and that `viewer` sees.

        From one replacement to the next it passes those that `viewer` sees, or saw until they
        retired. Entries of an older program may replace each other in a circle.
        """
        last, passed = None, {model.id}
        while (name := model.deprecation_replacement_model) and len(passed) <= MAX_CHAIN:
            found = self.get(name)
            if found is None or found.id in passed or not is_permitted(found.rule, viewer):
                break
            if is_live(found, self.since):
                last = name
            elif not is_retired(found, self.since):
                break
            passed.add(found.id)
            model = found
        return last


def _aliases_of(models: Iterable[Model]) -> set[tuple[str, str]]:
    """Return each alias of one of `models`, with the id of that one."""
    return {(alias, model.id) for model in models for alias in model.aliases or ()}


def _find(
    name: str, get: Callable[[str], Model | None], by_alias: Index[str, str]
) -> Model | None:
    """Return the entry with this id or, if there is none, with this alias."""
    model = get(name)
    return get(min(by_alias[name])) if model is None and name in by_alias else model


def _item(
    name: str, get: Callable[[str], Model | None], by_alias: Index[str, str], now: float
) -> Model | None:
    """Return the item that lists show under this name at `now`, if there is one."""
    model = _find(name, get, by_alias)
    if model is None or not is_live(model, now):
        return None
    if model.id == name:
        return model
    return model.under(name) if model.list_aliases else None


def _boundaries_of(models: Iterable[Model]) -> set[_Boundary]:
    return {(moment, model.id) for model in models for moment in boundaries_of(model)}


def _validity(boundaries: Sequence[_Boundary], now: float) -> tuple[float, float]:
    """Return the last boundary up to `now`, and the first one after it."""
    index = bisect_right(boundaries, now, key=_MOMENT)
    since = boundaries[index - 1][0] if index else float("-inf")
    until = boundaries[index][0] if index < len(boundaries) else float("inf")
    return since, until
