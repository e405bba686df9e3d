"""Plans: changes of many entries, made before anything is written.

An import, an edit of many entries and a removal of many differ only in how they make a plan. To
show it is the dry run; to apply it is one transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from app.catalog.errors import ModelExists, ValidationFailed, quote
from app.catalog.lifecycle import problem_with_dates
from app.catalog.model import Model
from app.catalog.ports import Change, Changes, Position
from app.catalog.snapshot import MAX_CHAIN, Snapshot

#: The field that `check_replacement` is about.
_REPLACEMENT = "deprecation_replacement_model"
#: Prices of models, and from when on they are warned about: the dearest model takes 0.0006 USD.
_PER_TOKEN = ("prompt", "completion")
_DEAR = 0.01
#: So many steps of a circle are shown.
_SHOWN = 6


class Remark(NamedTuple):
    """A sentence about one row of a file, or one entry."""

    id: str
    message: str
    field: str | None = None
    #: Where the row is: a number from 1 on, or a key; None if there is no file.
    place: int | str | None = None


class Preserved(NamedTuple):
    """A field that a person has changed, and the value that would have replaced it."""

    id: str
    field: str
    stored: Any
    given: Any


@dataclass(slots=True, kw_only=True)
class Plan:
    """What would change, and why not more."""

    #: The state that the plan was made for.
    position: Position
    #: At most one for each id.
    changes: list[Change] = field(default_factory=list)
    #: How many entries are so already.
    unchanged: int = 0
    skipped: list[Remark] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    #: Of rows that are taken without a field.
    degraded: list[Remark] = field(default_factory=list)
    preserved: list[Preserved] = field(default_factory=list)
    #: What is allowed although it may be a mistake, in sentences.
    warnings: list[str] = field(default_factory=list)
    #: The names that the plan asked for, beside those of `changes`; None if it read all entries.
    asked: Set[str] | None = None
    #: The source of whose entries it asked for all; None if it did not.
    source: str | None = None

    def holds_after(self, later: Changes, snapshot: Snapshot) -> bool:
        """Return whether the plan, which was made for `snapshot`, needs no regard to `later`.

        Entries that share no name with it do not matter, unless they name a replacement, which
        may lead back to an entry of the plan.
        """
        if self.asked is None:
            return False
        models = (model for change in self.changes for model in change if model is not None)
        names = {*self.asked, *(name for model in models for name in model.ids)}
        for model_id, after in later.models.items():
            for model in (snapshot.models.get(model_id), after):
                if model is not None and (
                    not names.isdisjoint(model.ids)
                    or (self.source is not None and model.source == self.source)
                    or model.deprecation_replacement_model is not None
                ):
                    return False
        return True

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers that a `GoodRun` has, by their names."""
        kinds = Counter(change.kind for change in self.changes)
        return {
            **{kind: kinds[kind] for kind in ("added", "changed", "removed")},
            "unchanged": self.unchanged,
            "skipped": len(self.skipped),
            "refused": len(self.refused),
            "kept": len(self.preserved),
        }

    @property
    def shown_ids(self) -> Iterable[str]:
        """Return, each once, the ids of what changes and of what is not done, with its reason."""
        parts = (self.changes, self.preserved, self.skipped, self.refused)
        return dict.fromkeys(item.id for part in parts for item in part)


def settle(
    plan: Plan,
    changes: Iterable[Change],
    snapshot: Snapshot,
    *,
    strict: bool,
    skip_taken: bool = False,
) -> None:
    """Add those of `changes` to `plan` that keep the rules about several entries.

    A change that breaks one is refused or, unless `strict`, made without the field. A new id that
    is an alias of another entry is refused or, with `skip_taken`, skipped.
    """
    changes = [*changes]
    refused = set()
    without: defaultdict[str, set[str]] = defaultdict(set)
    for model_id, name, holder in _conflicts(changes, snapshot):
        field_name = "id" if name == model_id else "aliases"
        remark = Remark(model_id, str(ModelExists(name, holder, field_name)), field_name)
        if strict or name == model_id:
            refused.add(model_id)
            (plan.skipped if skip_taken else plan.refused).append(remark)
        else:
            without[model_id].add(name)
            plan.degraded.append(remark)
    allowed = [
        _without(change, without[change.id]) for change in changes if change.id not in refused
    ]
    # Only what names lead to once they are settled decides where replacements lead.
    find = _finder(allowed, snapshot)
    for before, changed in allowed:
        after = changed
        if after is not None:
            try:
                plan.warnings += check_replacement(after, before, find)
            except ValidationFailed as error:
                remark = Remark(after.id, error.errors[_REPLACEMENT][0], _REPLACEMENT)
                if strict:
                    plan.refused.append(remark)
                    continue
                plan.degraded.append(remark)
                after = _with_stored_replacement(after, before, find)
            if after == before:
                plan.unchanged += 1
                continue
            # An import stores them: without one of them somebody would see the entry after all.
            if problem := problem_with_dates(after.available_from, after.shutdown_date, before):
                plan.warnings.append(f"Nobody will see '{after.id}'. shutdown_date: {problem}")
        plan.changes.append(Change(before, after))
    plan.warnings += [*_orphans(plan.changes, snapshot), *check_prices(plan.changes)]


def _with_stored_replacement(
    model: Model, before: Model | None, find: Callable[[str], Model | None]
) -> Model:
    """Return `model` with the replacement of `before`, or none if new aliases make that wrong."""
    if before is not None:
        stored = replace(model, deprecation_replacement_model=before.deprecation_replacement_model)
        with suppress(ValidationFailed):
            check_replacement(stored, before, find)
            return stored
    return replace(model, deprecation_replacement_model=None)


def _without(change: Change, names: Set[str]) -> Change:
    """Return `change` without these aliases of the entry after it."""
    if change.after is None or not names:
        return change
    left = [alias for alias in change.after.aliases or () if alias not in names]
    return Change(change.before, replace(change.after, aliases=left or None))


class _Conflict(NamedTuple):
    """A name that an entry would have beside its holder."""

    id: str
    name: str
    holder: str


def _conflicts(changes: Sequence[Change], snapshot: Snapshot) -> Iterator[_Conflict]:
    """Yield what would break the rule that each name, an id or an alias, has one entry.

    An entry that has a name already goes before one that would get it, ids go before aliases, and
    what is earlier in `changes` before what is later. Without the new entries and the new aliases
    of the conflicts, `changes` keep the rule.
    """
    planned = {change.id: change for change in changes}
    taken: dict[str, str] = {}
    refused = set()

    def holder_of(name: str) -> str | None:
        found = snapshot.get(name)
        stored = found.id if found is not None and found.id not in planned else None
        return taken.get(name, stored)

    for before, after in changes:
        if before is not None and after is not None:
            taken |= {name: after.id for name in after.ids if name in before.ids}
    for before, after in changes:
        if before is None and after is not None:
            if (holder := holder_of(after.id)) is None:
                taken[after.id] = after.id
            else:
                refused.add(after.id)
                yield _Conflict(after.id, after.id, holder)
    for before, after in changes:
        if after is None or after.id in refused or not after.aliases:
            continue
        for alias in after.aliases:
            if before is not None and alias in before.ids:
                continue
            if (holder := holder_of(alias)) is None:
                taken[alias] = after.id
            else:
                yield _Conflict(after.id, alias, holder)


def _orphans(changes: Sequence[Change], snapshot: Snapshot) -> Iterator[str]:
    """Yield a sentence for each entry whose replacement goes with `changes`."""
    after = {change.id: change.after for change in changes}
    left = {name for change in changes if change.after for name in change.after.ids}
    for change in changes:
        for name in () if change.before is None else change.before.ids:
            if name in left:
                continue
            for other in sorted(snapshot.referrers.get(name, ())):
                model = after[other] if other in after else snapshot.models.get(other)
                if model is not None and model.deprecation_replacement_model == name:
                    yield f"'{quote(name)}' goes, which is the replacement of '{quote(other)}'."


def check_prices(changes: Iterable[Change]) -> Iterator[str]:
    """Yield a warning if new prices for a token are as high as those for a million tokens."""
    dear = [
        (after.id, name, price)
        for before, after in changes
        if after and after.pricing and (before is None or before.pricing != after.pricing)
        for name, price in after.pricing.items()
        if name in _PER_TOKEN and float(price) >= _DEAR
    ]
    if dear:
        [(model_id, name, price), *_] = dear
        others = len({dear_id for dear_id, _, _ in dear}) - 1
        more = f" and {others:,} more" if others else ""
        yield (
            f"'{quote(model_id)}'{more}: pricing.{name} is {price} USD for one token. Is that the "
            "price for a million?"
        )


def check_replacement(
    model: Model, before: Model | None, find: Callable[[str], Model | None]
) -> Sequence[str]:
    """Return a warning if the replacement of `model` is no entry: it may be added later.

    Raises `ValidationFailed` if the replacements, from one to the next, never end. What `before`
    has already is not checked again: then any other write of it would be refused.
    """
    name = model.deprecation_replacement_model
    if (
        before is not None
        and before.deprecation_replacement_model == name
        and {*model.ids} <= {*before.ids}
    ):
        return ()
    path: list[str] = []
    passed: set[str] = set()
    while name is not None:
        path.append(name)
        found = find(name)
        if name in model.ids or (found is not None and found.id in passed):
            where = "back to this entry" if name in model.ids else "into a circle"
            # A file may have a long circle for each of its rows.
            steps = path if len(path) <= _SHOWN else [*path[: _SHOWN - 2], "…", path[-1]]
            shown_path = " -> ".join(quote(step, 30) for step in steps)
            raise _refusal(f"Must not lead {where}: {shown_path}.")
        if len(path) > MAX_CHAIN:
            raise _refusal(
                f"Must lead to an end in at most {MAX_CHAIN} steps, one replacement each."
            )
        if found is None or found.id == model.id:  # `before` under a name that `model` gives up
            break
        passed.add(found.id)
        name = found.deprecation_replacement_model
    if len(path) == 1 and found is None:
        sentence = f"'{quote(path[0], 30)}' is no entry yet; no reader is referred to it."
        return [f"{_REPLACEMENT}: {sentence}"]
    return ()


def _refusal(sentence: str) -> ValidationFailed:
    return ValidationFailed({_REPLACEMENT: [sentence]})


def _finder(changes: Sequence[Change], snapshot: Snapshot) -> Callable[[str], Model | None]:
    """Return what finds an entry by id or alias, as it is after `changes`."""
    after: Mapping[str, Model | None] = {change.id: change.after for change in changes}
    named = {name: m for m in after.values() if m for name in m.aliases or ()}
    named |= {m.id: m for m in after.values() if m}

    def find(name: str) -> Model | None:
        if name in named:
            return named[name]
        found = snapshot.get(name)
        return None if found is None or found.id in after else found

    return find
