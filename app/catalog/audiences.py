"""Audiences: viewers that see the same entries.

Entries are grouped by access. A write changes the entries of one access or of two, and all
audiences share the others: an audience takes some hundred bytes, however many entries it sees.
The item of an alias that lists show is an entry here.
"""

import secrets
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

#: An audience of up to so many accesses has their lists of entries. For one of more, the list of
#: all live entries is searched by rule: to merge so many lists takes longer.
FEW_LISTS = 8
#: The audiences of at most so many viewers are cached; each takes some hundred bytes, and more
#: with groups.
MOST_VIEWERS = 10_000

#: Organization and group of a permission.
_Scope = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class AccessEntries:
    """The live entries that have one access."""

    #: The digest of the access, 128 bits.
    digest: int
    models: OrderedModels
    #: A random number, 128 bits, for each state of the entries.
    state: int = field(default_factory=lambda: secrets.randbits(128))


@dataclass(frozen=True, slots=True, eq=False)
class AccessIndex:
    """The entries of each access, and by scope the accesses that allow or block its viewers."""

    entries: Mapping[Access, AccessEntries]
    allowing: Index[_Scope, Access]
    blocking: Index[_Scope, Access]

    def changed(self, lists: Mapping[Access, OrderedModels]) -> "AccessIndex":
        """Return the index after the entries of some accesses changed to `lists`."""
        entries = dict(self.entries)
        for access, models in lists.items():
            if models:
                entries[access] = AccessEntries(_digest(access), models)
            else:
                entries.pop(access, None)
        old = [access for access in lists if access in self.entries and access not in entries]
        new = [access for access in lists if access in entries and access not in self.entries]
        return AccessIndex(
            entries,
            changed_index(self.allowing, removed=_allowing(old), added=_allowing(new)),
            changed_index(self.blocking, removed=_blocking(old), added=_blocking(new)),
        )

    def allowed(self, viewer: Viewer) -> set[Access]:
        """Return the accesses of the entries that `viewer` sees.

        It is `app.catalog.visibility.is_permitted` for all rules at once: a permission matches if
        its organization and group are one of the viewer's scopes.
        """
        scopes = _scopes(viewer)
        nothing: frozenset[Access] = frozenset()
        allowed: set[Access] = set().union(*(self.allowing.get(s, nothing) for s in scopes))
        allowed.difference_update(*(self.blocking.get(scope, nothing) for scope in scopes))
        return allowed


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """Viewers that see the same entries, and the same of each entry."""

    #: The sum of the digests of the accesses: the name of the audience while these are the same.
    name: int
    #: The sum of the states of the entries of these accesses, equal for equal entries alone.
    state: int
    #: The number of entries.
    size: int
    #: A list of entries for each access; if there are too many, the list of all live entries.
    lists: Sequence[OrderedModels] = field(repr=False)
    has_few_lists: bool
    #: Whether some entry may be shown to these viewers in part only.
    has_excerpts: bool
    #: The scopes of the viewers that entries with several permissions have. They decide which of
    #: these permissions are shown; `name` decides which names of other entries are.
    scopes: frozenset[_Scope] = field(repr=False)


class Audiences:
    """The audiences of one state of the catalogue, each computed for its first viewer."""

    def __init__(self, index: AccessIndex, live: OrderedModels) -> None:
        self.index = index
        #: All live entries, and the items of aliases that lists show.
        self.live = live
        self._by_viewer: dict[Viewer, Audience] = {}
        self._by_state: dict[tuple[int, frozenset[_Scope]], Audience] = {}

    @classmethod
    def of(cls, models: Iterable[Model]) -> Self:
        """Return the audiences of `models`, which are live and in order of id."""
        live = OrderedModels(models)
        lists: defaultdict[Access, OrderedModels] = defaultdict(OrderedModels)
        for model in live:
            lists[model.access].append(model)
        return cls(AccessIndex({}, {}, {}).changed(lists), live)

    def changed(self, changes: Mapping[Access, Mapping[str, Model | None]]) -> Self:
        """Return the audiences after `changes`: by access and id a live entry, None if removed."""
        lists = {}
        latest: dict[str, Model | None] = {}
        for access, entries in changes.items():
            before = self.index.entries.get(access)
            lists[access] = (OrderedModels() if before is None else before.models).changed(entries)
            # An entry whose access changed is None at the old one.
            latest |= {i: model for i, model in entries.items() if model or i not in latest}
        return type(self)(self.index.changed(lists), self.live.changed(latest))

    def of_viewer(self, viewer: Viewer) -> Audience:
        """Return the audience that `viewer` belongs to."""
        audience = self._by_viewer.get(viewer)
        if audience is None:
            allowed = self.index.allowed(viewer)
            seen = [self.index.entries[access] for access in allowed]
            state = sum([entries.state for entries in seen])
            mixed = {grant[:2] for a in allowed if len(a.rule) > 1 for grant in a.rule}
            scopes = frozenset(mixed.intersection(_scopes(viewer)))
            audience = self._by_state.get((state, scopes))
            if audience is None:
                audience = Audience(
                    name=sum([entries.digest for entries in seen]),
                    state=state,
                    size=sum([len(entries.models) for entries in seen]),
                    lists=[e.models for e in seen] if len(seen) <= FEW_LISTS else [self.live],
                    has_few_lists=len(seen) <= FEW_LISTS,
                    has_excerpts=any(len(a.rule) > 1 or a.references for a in allowed),
                    scopes=scopes,
                )
                # Of two threads that compute it at once, both take the result of the first.
                audience = self._by_state.setdefault((state, scopes), audience)
            if len(self._by_viewer) >= MOST_VIEWERS:
                self._by_viewer.clear()
                self._by_state.clear()
            self._by_viewer[viewer] = audience
        return audience

    def find_rules(self, viewer: Viewer) -> frozenset[Rule]:
        """Return the rules of the entries that `viewer` sees: equal for equal audience names."""
        return frozenset(access.rule for access in self.index.allowed(viewer))


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
