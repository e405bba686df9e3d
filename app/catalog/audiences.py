"""Which viewers see which entries: entries are grouped by access, viewers by what they match.

A write changes the entries of one access, or of two. Everything else is shared by all audiences:
an audience by itself holds some numbers, however many entries it sees.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from typing import Self

from app.catalog.index import Index, changed_index
from app.catalog.model import Access, Model, Rule
from app.catalog.ordered import OrderedModels
from app.catalog.visibility import Viewer

#: An audience that sees the entries of no more accesses has their lists at hand. For one of more,
#: the rule of each entry is looked at: to merge so many lists takes longer.
FEW_LISTS = 8
#: Viewers whose audience is remembered, at most. Each takes some hundred bytes, and groups more.
MOST_VIEWERS = 10_000

#: Organization and group of a permission.
_Scope = tuple[str | None, str | None]
_Accesses = Index[_Scope, Access]


@dataclass(frozen=True, slots=True, eq=False)
class AccessEntries:
    """The live entries that have one access."""

    #: The digest of the access, 128 bits.
    digest: int
    models: OrderedModels
    #: A random number, 128 bits: another one whenever the entries change.
    state: int = field(default_factory=lambda: random.getrandbits(128))


class _Index:
    """The entries of each access, and by scope the accesses that allow or forbid its viewers."""

    def __init__(
        self,
        entries: Mapping[Access, AccessEntries],
        allowing: _Accesses,
        blocking: _Accesses,
    ) -> None:
        self.entries = entries
        self.allowing = allowing
        self.blocking = blocking

    def changed(self, lists: Mapping[Access, OrderedModels]) -> "_Index":
        """Return the index in which these accesses have these entries, others as before."""
        entries = dict(self.entries)
        for access, models in lists.items():
            if models:
                entries[access] = AccessEntries(_digest(access), models)
            else:
                entries.pop(access, None)
        gone = [access for access in lists if access in self.entries and access not in entries]
        came = [access for access in lists if access in entries and access not in self.entries]
        return _Index(
            entries,
            changed_index(self.allowing, removed=_allowing(gone), added=_allowing(came)),
            changed_index(self.blocking, removed=_blocking(gone), added=_blocking(came)),
        )

    def allowed(self, viewer: Viewer) -> set[Access]:
        """Return the accesses of what `viewer` sees, as `app.catalog.visibility` has it.

        A permission matches if its organization and group are one of the viewer's scopes.
        """
        scopes = _scopes(viewer)
        nothing: frozenset[Access] = frozenset()
        allowed: set[Access] = set().union(*(self.allowing.get(s, nothing) for s in scopes))
        allowed.difference_update(*(self.blocking.get(scope, nothing) for scope in scopes))
        return allowed


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The viewers that see the same entries, and the same of each, and these entries."""

    #: The sum of the digests of the accesses that these viewers see entries of: it names the
    #: audience for as long as these stay the same.
    name: int
    #: The sum of the states of these entries: the same for the very same entries, and no others.
    state: int
    #: How many entries there are.
    size: int
    #: The entries, a list for each access; or all live entries, where these are more than few.
    lists: Sequence[OrderedModels] = field(repr=False)
    has_few_lists: bool
    #: Whether some entry may not be shown whole to these viewers.
    has_excerpts: bool
    #: What decides which permissions they are shown of entries with several: their scopes, of
    #: those that such entries have. Which names are hidden from them, `name` decides.
    scopes: frozenset[_Scope] = field(repr=False)
    #: Some viewer of them.
    _index: _Index = field(repr=False)
    _viewer: Viewer = field(repr=False)

    def find_rules(self) -> frozenset[Rule]:
        """Return the rules of the entries; with the same `name` they are the same."""
        return frozenset(access.rule for access in self._index.allowed(self._viewer))


class Audiences:
    """The audiences of one state of the catalogue; each is found when a viewer first asks."""

    def __init__(self, index: _Index, live: OrderedModels) -> None:
        self._index = index
        self._live = live
        self._by_viewer: dict[Viewer, Audience] = {}
        self._by_state: dict[tuple[int, frozenset[_Scope]], Audience] = {}

    @classmethod
    def of(cls, models: Iterable[Model]) -> Self:
        """Return the audiences of the live `models`, which are in order of id."""
        live = OrderedModels(models)
        lists: defaultdict[Access, OrderedModels] = defaultdict(OrderedModels)
        for model in live:
            lists[model.access].append(model)
        return cls(_Index({}, {}, {}).changed(lists), live)

    def changed(self, changes: Mapping[Access, Mapping[str, Model | None]]) -> Self:
        """Return the audiences after `changes`: by access and id the live entry, None if gone."""
        lists = {}
        latest: dict[str, Model | None] = {}
        for access, entries in changes.items():
            before = self._index.entries.get(access)
            lists[access] = (OrderedModels() if before is None else before.models).changed(entries)
            # Of an entry that has another access than before, one says that it is gone.
            latest |= {i: model for i, model in entries.items() if model or i not in latest}
        return type(self)(self._index.changed(lists), self._live.changed(latest))

    def of_viewer(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        audience = self._by_viewer.get(viewer)
        if audience is None:
            allowed = self._index.allowed(viewer)
            seen = [self._index.entries[access] for access in allowed]
            state = sum([entries.state for entries in seen])
            mixed = {grant[:2] for a in allowed if len(a.rule) > 1 for grant in a.rule}
            scopes = frozenset(mixed.intersection(_scopes(viewer)))
            audience = self._by_state.get((state, scopes))
            if audience is None:
                audience = Audience(
                    name=sum([entries.digest for entries in seen]),
                    state=state,
                    size=sum([len(entries.models) for entries in seen]),
                    lists=[e.models for e in seen] if len(seen) <= FEW_LISTS else [self._live],
                    has_few_lists=len(seen) <= FEW_LISTS,
                    has_excerpts=any(len(a.rule) > 1 or a.references for a in allowed),
                    scopes=scopes,
                    _index=self._index,
                    _viewer=viewer,
                )
                # Two threads may come here at once: both take what the first one found.
                audience = self._by_state.setdefault((state, scopes), audience)
            if len(self._by_viewer) >= MOST_VIEWERS:
                self._by_viewer.clear()
                self._by_state.clear()
            self._by_viewer[viewer] = audience
        return audience


def _scopes(viewer: Viewer) -> list[_Scope]:
    return [*product({"*", viewer.organization}, (None, *viewer.groups))]


def _allowing(accesses: Iterable[Access]) -> Iterator[tuple[_Scope, Access]]:
    return ((grant[:2], a) for a in accesses for grant in a.rule if grant.allow_view)


def _blocking(accesses: Iterable[Access]) -> Iterator[tuple[_Scope, Access]]:
    return ((grant[:2], a) for a in accesses for grant in a.rule if grant.is_blocking)


def _digest(access: Access) -> int:
    references = [(name, sorted(rule, key=repr)) for name, rule in access.references]
    text = repr((sorted(access.rule, key=repr), references)).encode()
    return int.from_bytes(blake2b(text, digest_size=16).digest())
