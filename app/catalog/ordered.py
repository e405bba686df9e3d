"""Entries in order of id: found, changed and searched without a look at each of them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Set
from operator import attrgetter
from typing import Self

from app.catalog.model import Model, Rule

_ID = attrgetter("id")

#: How many entries are searched together before each of them is looked at.
_CHUNK = 64


class OrderedModels(list[Model]):
    """A list of entries in code point order of their ids; nobody changes it once it is made.

    For searches it is cut into chunks. What all entries of a chunk have of a field is prepared
    when it is first asked for: so a search passes over most chunks with one look at each.
    """

    __slots__ = ("_owners", "_rules", "_texts")

    def __init__(self, models: Iterable[Model] = ()) -> None:
        super().__init__(models)
        self._texts: list[str] | None = None
        self._owners: list[frozenset[str]] | None = None
        self._rules: list[frozenset[Rule]] | None = None

    def get(self, model_id: str) -> Model | None:
        """Return the entry with this id, None if it is not here."""
        place = bisect_left(self, model_id, key=_ID)
        if place < len(self) and self[place].id == model_id:
            return self[place]
        return None

    def changed(self, changes: Mapping[str, Model | None]) -> Self:
        """Return the list with each of `changes` put in, replaced, or taken out where it is None.

        Where few of many change, the list is copied and their places are found by bisection.
        """
        if len(changes) > len(self) // 10:
            left = [model for model in self if model.id not in changes]
            return type(self)(sorted([*left, *filter(None, changes.values())], key=_ID))
        result = type(self)(self[:])  # of a slice, Python copies all at once
        for model_id, model in changes.items():
            place = bisect_left(result, model_id, key=_ID)
            there = place < len(result) and result[place].id == model_id
            result[place : place + there] = [] if model is None else [model]
        return result

    def matching(
        self,
        start: int,
        stop: int,
        *,
        owned_by: str | None = None,
        q: str | None = None,
        rules: Set[Rule] | None = None,
        backwards: bool = False,
    ) -> Iterator[Model]:
        """Yield the entries from index `start` to before `stop` that have all that is given.

        `q` is folded, and looked for in `Model.search_text`; the rule of an entry is one of
        `rules`. None matches everything. `backwards` yields the last one first.
        """
        if q is not None and "\n" in q:  # it separates id and name in the text, and is in neither
            return
        step = -1 if backwards else 1
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK))[::step]:
            if owned_by is not None and owned_by not in self._owners_of(chunk):
                continue
            if q is not None and q not in self._text_of(chunk):
                continue
            if rules is not None and rules.isdisjoint(self._rules_of(chunk)):
                continue
            first, last = max(start, chunk * _CHUNK), min(stop, (chunk + 1) * _CHUNK)
            for model in self[first:last][::step]:
                if (
                    (owned_by is None or model.owned_by == owned_by)
                    and (q is None or q in model.search_text)
                    and (rules is None or model.rule in rules)
                ):
                    yield model

    def _text_of(self, chunk: int) -> str:
        if self._texts is None:
            self._texts = ["\n".join(m.search_text for m in part) for part in self._chunks()]
        return self._texts[chunk]

    def _owners_of(self, chunk: int) -> frozenset[str]:
        if self._owners is None:
            self._owners = [frozenset(m.owned_by for m in part) for part in self._chunks()]
        return self._owners[chunk]

    def _rules_of(self, chunk: int) -> frozenset[Rule]:
        if self._rules is None:
            self._rules = [frozenset(m.rule for m in part) for part in self._chunks()]
        return self._rules[chunk]

    def _chunks(self) -> Iterator[list[Model]]:
        return (self[first : first + _CHUNK] for first in range(0, len(self), _CHUNK))
