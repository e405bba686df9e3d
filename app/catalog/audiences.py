"""Who sees which entries: entries in groups of one rule, viewers by the groups that they see.

A write changes one group. All audiences share the groups that it leaves alone, and none has a
list of its own: an audience is a few references, whatever the catalogue's size.
"""

import itertools
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Self

from app.catalog.model import Model
from app.catalog.ordered import OrderedModels
from app.catalog.paging import EVERYTHING, cut
from app.catalog.visibility import Rule, Viewer, permits, rule_of

_NAME = attrgetter("name")

#: Numbers for the states of groups, each given once in a process.
_next_state = itertools.count().__next__

#: Organization and group of a permission that allows viewing.
_Scope = tuple[str, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The live entries of one rule, in order of id."""

    #: The digest of the rule.
    name: bytes
    models: OrderedModels
    #: Another one whenever entries change.
    state: int = field(default_factory=_next_state)


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The viewers that see the same entries, and these entries."""

    #: The digest of the rules that let it see something: it stays when entries change.
    name: bytes
    #: Another one whenever entries change that it sees.
    content: bytes
    #: The entries, each list in order of id: see ``app.catalog.paging``.
    lists: Sequence[OrderedModels]

    @property
    def models(self) -> Sequence[Model]:
        """Return the entries in order of id; they are merged at each call."""
        return cut(self.lists, EVERYTHING).models


class Audiences:
    """The audiences of one state of the catalogue; each is found when a viewer first asks."""

    def __init__(
        self,
        groups: Mapping[Rule, Group],
        rules: Mapping[_Scope, frozenset[Rule]],
        seen: dict[Viewer, Sequence[Rule]],
    ) -> None:
        self._groups = groups
        #: By scope, the rules that may let its viewers see something.
        self._rules = rules
        #: The rules that let a viewer see something; states with the same rules share it.
        self._seen = seen
        self._by_viewer: dict[Viewer, Audience] = {}
        self._by_content: dict[bytes, Audience] = {}

    @classmethod
    def of(cls, models: Iterable[Model]) -> Self:
        """Return the audiences of the live `models`, which are in order of id."""
        lists: defaultdict[Rule, OrderedModels] = defaultdict(OrderedModels)
        for model in models:
            lists[rule_of(model)].append(model)
        groups = {rule: Group(_name(rule), lists[rule]) for rule in lists}
        rules: defaultdict[_Scope, set[Rule]] = defaultdict(set)
        for rule in groups:
            for scope in _scopes(rule):
                rules[scope].add(rule)
        return cls(groups, {scope: frozenset(rules[scope]) for scope in rules}, {})

    def changed(self, changes: Mapping[Rule, Mapping[str, Model | None]]) -> Self:
        """Return the audiences after `changes`: by rule and id the live entry, None if gone."""
        groups = dict(self._groups)
        came_or_gone = []
        for rule, entries in changes.items():
            before = groups.get(rule)
            models = (OrderedModels() if before is None else before.models).changed(entries)
            if models:
                groups[rule] = Group(_name(rule) if before is None else before.name, models)
            else:
                groups.pop(rule, None)
            if (before is not None) != bool(models):
                came_or_gone.append(rule)
        if not came_or_gone:
            return type(self)(groups, self._rules, self._seen)
        rules = dict(self._rules)
        for rule in came_or_gone:
            for scope in _scopes(rule):
                rules[scope] = rules.get(scope, frozenset()) ^ {rule}
                if not rules[scope]:
                    del rules[scope]
        return type(self)(groups, rules, {})

    def of_viewer(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        audience = self._by_viewer.get(viewer)
        if audience is None:
            groups = sorted(map(self._groups.__getitem__, self._rules_of(viewer)), key=_NAME)
            content = _digest(array("Q", (group.state for group in groups)).tobytes())
            audience = self._by_content.get(content)
            if audience is None:
                name = _digest(b"".join(group.name for group in groups))
                audience = Audience(name, content, [group.models for group in groups])
                # Two threads may come here at once: both take what the first one found.
                audience = self._by_content.setdefault(content, audience)
            self._by_viewer[viewer] = audience
        return audience

    def _rules_of(self, viewer: Viewer) -> Sequence[Rule]:
        rules = self._seen.get(viewer)
        if rules is None:
            scopes = itertools.product(("*", viewer.organization or "*"), (None, *viewer.groups))
            near = {rule for scope in scopes for rule in self._rules.get(scope, ())}
            rules = self._seen[viewer] = [rule for rule in near if permits(rule, viewer)]
        return rules


def _scopes(rule: Rule) -> set[_Scope]:
    return {(grant.organization, grant.group) for grant in rule if grant.allow_view}


def _name(rule: Rule) -> bytes:
    return _digest(repr(sorted(rule, key=repr)).encode())


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
