"""The image that a worker serves from: every entry and key at one revision, read-only."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any, Self

from app.catalog.audiences import Audience, Audiences
from app.catalog.errors import ModelNotFound
from app.catalog.index import Index, changed_index
from app.catalog.keys import ApiKey
from app.catalog.lifecycle import boundaries, is_live, is_retired, with_deprecation
from app.catalog.model import Access, Model
from app.catalog.ordered import OrderedModels
from app.catalog.ports import Changes, Position, StoredCatalog
from app.catalog.references import effective_rule, named_by, resolve
from app.catalog.visibility import Viewer, is_permitted, is_visible

_ID = attrgetter("id")
_MOMENT = itemgetter(0)

#: A moment (Unix seconds) at which an entry appears, changes or disappears, and its id.
_Turn = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All entries and keys at `position`, with what was computed from them.

    Entries come, go and become deprecated by date without anybody writing, so a snapshot is
    valid from `since` to before `until`, the nearest such moments.
    """

    position: Position
    #: In order of id, code point order.
    models: OrderedModels
    keys_by_digest: Mapping[str, ApiKey] = field(repr=False)
    #: Every moment at which some entry appears, changes or disappears, in order.
    turns: Sequence[_Turn] = field(repr=False)
    #: By the id of an entry or of none, the ids of the entries that name it.
    referrers: Index[str, str] = field(repr=False)
    since: float
    until: float
    _audiences: Audiences = field(repr=False, compare=False)

    @classmethod
    def of(cls, image: StoredCatalog, now: float) -> Self:
        """Return the snapshot of everything in `image`."""
        turns = sorted(_turns(image.models))
        since, until = _valid(turns, now)
        by_id = {model.id: with_deprecation(model, since) for model in image.models}
        resolved = (resolve(model, by_id.get, since) for model in by_id.values())
        models = OrderedModels(sorted(resolved, key=_ID))
        return cls(
            position=Position(image.revision, image.mark),
            models=models,
            keys_by_digest={key.digest: key for key in image.keys},
            turns=turns,
            referrers=changed_index({}, added=named_by(models)),
            since=since,
            until=until,
            _audiences=Audiences.of(model for model in models if is_live(model, since)),
        )

    @property
    def revision(self) -> int:
        """Return the last change that is in it."""
        return self.position.revision

    @property
    def keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        return sorted(self.keys_by_digest.values(), key=lambda key: (key.created, key.kid))

    def get(self, model_id: str) -> Model | None:
        """Return the entry with this id, hidden or not."""
        return self.models.get(model_id)

    def apply(self, changes: Changes, now: float) -> Self:
        """Return the snapshot after `changes`; what they leave alone is shared, not copied."""
        turns = self.turns
        old = [*filter(None, map(self.get, changes.models))]
        new = [*filter(None, changes.models.values())]
        before, after = _turns(old), _turns(new)
        if len(before) + len(after) > len(turns) // 10:
            turns = sorted({*turns} - before | after)
        elif before != after:
            turns = list(turns)
            for turn in before:
                del turns[bisect_left(turns, turn)]
            for turn in after:
                insort(turns, turn)
        given: dict[str, Any] = {
            "position": Position(changes.revision, changes.mark),
            "referrers": changed_index(self.referrers, removed=named_by(old), added=named_by(new)),
        }
        if changes.keys:
            fresh = {key.digest: key for key in changes.keys.values()}
            given["keys_by_digest"] = {**self.keys_by_digest, **fresh}
        return self._moved(changes.models, turns, now, **given)

    def turn(self, now: float) -> Self:
        """Return the same entries as they are at `now`; only those whose date came are touched."""
        return self._moved({}, self.turns, now, referrers=self.referrers)

    def _moved(
        self,
        written: Mapping[str, Model | None],
        turns: Sequence[_Turn],
        now: float,
        *,
        referrers: Index[str, str],
        **given: Any,
    ) -> Self:
        """Return the snapshot at `now` in which the entries by these ids are as `written`."""
        since, until = _valid(turns, now)
        first, last = sorted((self.since, since))
        begin = bisect_right(turns, first, key=_MOMENT)
        passed = turns[begin : bisect_right(turns, last, begin, key=_MOMENT)]
        changed = {model_id: self.get(model_id) for _, model_id in passed} | dict(written)
        latest = {i: model and with_deprecation(model, since) for i, model in changed.items()}
        latest |= self._resolved(latest, referrers, since)
        groups = self._regrouped(latest, since)
        return replace(
            self,
            models=self.models.changed(latest) if latest else self.models,
            turns=turns,
            referrers=referrers,
            since=since,
            until=until,
            _audiences=self._audiences.changed(groups) if groups else self._audiences,
            **given,
        )

    def _resolved(
        self,
        latest: Mapping[str, Model | None],
        referrers: Index[str, str],
        since: float,
    ) -> Mapping[str, Model]:
        """Return those entries whose `references` are others when entries are as `latest`."""

        def find(model_id: str) -> Model | None:
            return latest[model_id] if model_id in latest else self.get(model_id)

        concerned = set(latest)
        for model_id, model in latest.items():
            before = effective_rule(self.get(model_id), self.since)
            if model_id in referrers and before != effective_rule(model, since):
                concerned |= referrers[model_id]
        resolved = {}
        for model_id in concerned:
            model = find(model_id)
            if model is not None and (other := resolve(model, find, since)) is not model:
                resolved[model_id] = other
        return resolved

    def _regrouped(
        self, latest: Mapping[str, Model | None], since: float
    ) -> Mapping[Access, Mapping[str, Model | None]]:
        """Return by access which of the live entries are others, come or gone."""
        changes: defaultdict[Access, dict[str, Model | None]] = defaultdict(dict)
        for model_id, model in latest.items():
            before = self.get(model_id)
            was_live = before is not None and is_live(before, self.since)
            now_live = model is not None and is_live(model, since)
            if before is not None and was_live:
                changes[before.access][model_id] = None
            if model is not None and now_live:
                changes[model.access][model_id] = model
        return changes

    def covers(self, now: float) -> bool:
        """Tell whether no entry has come, gone or changed by date since the snapshot's making."""
        return self.since <= now < self.until

    def audience(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        return self._audiences.of_viewer(viewer)

    def _sees(self, viewer: Viewer, model: Model) -> bool:
        # At any moment of the snapshot the answer is the same; before the first, none has come.
        return is_visible(model, viewer, self.since)

    def find(self, model_id: str, viewer: Viewer) -> Model:
        """Return the entry with this id if `viewer` sees it, else raise `ModelNotFound`.

        Hidden is the same as unknown. Only a retired entry that the viewer could see before
        names its replacement, if the viewer sees that one.
        """
        model = self.get(model_id)
        if model is None:
            raise ModelNotFound(model_id)
        if self._sees(viewer, model):
            return model
        replacement = self.get(model.deprecation_replacement_model or "")
        if (
            replacement is not None
            and is_retired(model, self.since)
            and is_permitted(model.rule, viewer)
            and self._sees(viewer, replacement)
        ):
            raise ModelNotFound(model_id, replacement.id)
        raise ModelNotFound(model_id)


def _turns(models: Iterable[Model]) -> set[_Turn]:
    return {(moment, model.id) for model in models for moment in boundaries(model)}


def _valid(turns: Sequence[_Turn], now: float) -> tuple[float, float]:
    """Return the nearest moment up to `now`, and the nearest after it."""
    place = bisect_right(turns, now, key=_MOMENT)
    since = turns[place - 1][0] if place else float("-inf")
    until = turns[place][0] if place < len(turns) else float("inf")
    return since, until
