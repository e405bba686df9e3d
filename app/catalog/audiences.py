"""Which viewers see which entries: entries are grouped by rule, viewers by the rules they match.

A write changes the entries of one rule, or of two. Everything else is shared by all audiences:
an audience by itself holds some numbers, however many entries it sees.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from typing import Self

from app.catalog.model import Grant, Model, Rule
from app.catalog.ordered import OrderedModels
from app.catalog.visibility import Viewer

#: An audience that sees the entries of no more rules has their lists at hand. For one of more,
#: the rule of each entry is looked at: to merge so many lists takes longer.
FEW_RULES = 8
#: Viewers whose audience is remembered, at most. Each takes some hundred bytes, and groups more.
MOST_VIEWERS = 10_000

#: Organization and group of a permission.
_Scope = tuple[str | None, str | None]
_Rules = Mapping[_Scope, frozenset[Rule]]


@dataclass(frozen=True, slots=True, eq=False)
class RuleEntries:
    """The live entries that have one rule."""

    #: The digest of the rule, 128 bits.
    digest: int
    models: OrderedModels
    #: A random number, 128 bits: another one whenever the entries change.
    state: int = field(default_factory=lambda: random.getrandbits(128))


class _Index:
    """The entries of each rule, and by scope the rules that let its viewers see or forbid it."""

    def __init__(
        self, entries: Mapping[Rule, RuleEntries], allowing: _Rules, blocking: _Rules
    ) -> None:
        self.entries = entries
        self.allowing = allowing
        self.blocking = blocking

    def changed(self, lists: Mapping[Rule, OrderedModels]) -> "_Index":
        """Return the index in which these rules have these entries, and others as before."""
        entries = dict(self.entries)
        for rule, models in lists.items():
            if models:
                entries[rule] = RuleEntries(_digest(rule), models)
            else:
                entries.pop(rule, None)
        came_or_gone = [rule for rule in lists if (rule in entries) != (rule in self.entries)]
        allowing = [(rule, g) for rule in came_or_gone for g in rule if g.allow_view]
        blocking = [(rule, g) for rule in came_or_gone for g in rule if g.is_blocking]
        return _Index(
            entries, _indexed(self.allowing, allowing), _indexed(self.blocking, blocking)
        )

    def allowed(self, viewer: Viewer) -> set[Rule]:
        """Return the rules by which `viewer` sees entries, as `app.catalog.visibility` has it.

        A permission matches if its organization and group are one of the viewer's scopes.
        """
        scopes = [*product({"*", viewer.organization}, (None, *viewer.groups))]
        nothing: frozenset[Rule] = frozenset()
        allowed: set[Rule] = set().union(*(self.allowing.get(scope, nothing) for scope in scopes))
        allowed.difference_update(*(self.blocking.get(scope, nothing) for scope in scopes))
        return allowed


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The viewers that see the same entries, and these entries."""

    #: The sum of the digests of the rules that these viewers see entries of: it names the
    #: audience for as long as these stay the same.
    name: int
    #: The sum of the states of these entries: the same for the very same entries, and no others.
    state: int
    #: How many entries there are.
    size: int
    #: The entries, a list for each rule; or all live entries, where the rules are more than few.
    lists: Sequence[OrderedModels] = field(repr=False)
    has_few_rules: bool
    #: Some viewer of them.
    _index: _Index = field(repr=False)
    _viewer: Viewer = field(repr=False)

    def find_rules(self) -> frozenset[Rule]:
        """Return the rules of the entries; with the same `name` they are the same."""
        return frozenset(self._index.allowed(self._viewer))


class Audiences:
    """The audiences of one state of the catalogue; each is found when a viewer first asks."""

    def __init__(self, index: _Index, live: OrderedModels) -> None:
        self._index = index
        self._live = live
        self._by_viewer: dict[Viewer, Audience] = {}
        self._by_state: dict[int, Audience] = {}

    @classmethod
    def of(cls, models: Iterable[Model]) -> Self:
        """Return the audiences of the live `models`, which are in order of id."""
        live = OrderedModels(models)
        lists: defaultdict[Rule, OrderedModels] = defaultdict(OrderedModels)
        for model in live:
            lists[model.rule].append(model)
        return cls(_Index({}, {}, {}).changed(lists), live)

    def changed(self, changes: Mapping[Rule, Mapping[str, Model | None]]) -> Self:
        """Return the audiences after `changes`: by rule and id the live entry, None if gone."""
        lists = {}
        latest: dict[str, Model | None] = {}
        for rule, entries in changes.items():
            before = self._index.entries.get(rule)
            lists[rule] = (OrderedModels() if before is None else before.models).changed(entries)
            # Of an entry that has another rule than before, one says that it is gone.
            latest |= {i: model for i, model in entries.items() if model or i not in latest}
        return type(self)(self._index.changed(lists), self._live.changed(latest))

    def of_viewer(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        audience = self._by_viewer.get(viewer)
        if audience is None:
            seen = [self._index.entries[rule] for rule in self._index.allowed(viewer)]
            state = sum([entries.state for entries in seen])
            audience = self._by_state.get(state)
            if audience is None:
                name = sum([entries.digest for entries in seen])
                size = sum([len(entries.models) for entries in seen])
                has_few = len(seen) <= FEW_RULES
                lists = [entries.models for entries in seen] if has_few else [self._live]
                audience = Audience(name, state, size, lists, has_few, self._index, viewer)
                # Two threads may come here at once: both take what the first one found.
                audience = self._by_state.setdefault(state, audience)
            if len(self._by_viewer) >= MOST_VIEWERS:
                self._by_viewer.clear()
                self._by_state.clear()
            self._by_viewer[viewer] = audience
        return audience


def _indexed(rules: _Rules, changed: Sequence[tuple[Rule, Grant]]) -> _Rules:
    """Return `rules` with each of `changed` added to its scope, or taken away if it was there."""
    if not changed:
        return rules
    by_scope: defaultdict[_Scope, set[Rule]] = defaultdict(set)
    for rule, grant in changed:
        by_scope[grant.organization, grant.group].add(rule)
    result = dict(rules)
    for scope, some in by_scope.items():
        left = result.pop(scope, frozenset()) ^ some
        if left:
            result[scope] = left
    return result


def _digest(rule: Rule) -> int:
    text = repr(sorted(rule, key=repr)).encode()
    return int.from_bytes(blake2b(text, digest_size=16).digest())
