"""Entries in order of id, which can be found, changed and searched without reading each."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Set
from operator import attrgetter
from typing import Self

from app.catalog.model import Model, Rule

_ID = attrgetter("id")

#: A search reads so many entries only if they may contain a match.
CHUNK = 64


class OrderedModels(list[Model]):
    """A list of entries in code point order of their ids, which never changes.

    A search divides it into chunks. The first search of a field collects what the entries of each
    chunk have in it; so it can skip most chunks after one comparison.
    """

    __slots__ = ("_owners", "_rules", "_texts")

    def __init__(self, models: Iterable[Model] = ()) -> None:
        super().__init__(models)
        self._texts: list[str] | None = None
        self._owners: list[frozenset[str]] | None = None
        self._rules: list[frozenset[Rule]] | None = None

    def get(self, model_id: str) -> Model | None:
        """Return the entry with this id, None if there is none."""
        index = bisect_left(self, model_id, key=_ID)
        return self[index] if index < len(self) and self[index].id == model_id else None

    def changed(self, changes: Mapping[str, Model | None]) -> Self:
        """Return the list after `changes`: by id the new entry, None to remove it.

        For few changes of a long list, it is copied and changed by bisection.
        """
        if len(changes) > len(self) // 10:
            others = [model for model in self if model.id not in changes]
            return type(self)(sorted([*others, *filter(None, changes.values())], key=_ID))
        result = type(self)(self[:])  # Python copies a slice at once
        for model_id, model in changes.items():
            index = bisect_left(result, model_id, key=_ID)
            is_found = index < len(result) and result[index].id == model_id
            result[index : index + is_found] = [] if model is None else [model]
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
        """Yield the entries from index `start` to before `stop` that match all that is given.

        `q`, which is casefolded, must be in `Model.search_text`, and the rule of an entry in
        `rules`. None matches everything. `backwards` yields the last entry first.
        """
        if q is not None and "\n" in q:  # it separates id, name and aliases, and is in none
            return
        step = -1 if backwards else 1
        for chunk in range(start // CHUNK, -(-stop // CHUNK))[::step]:
            if owned_by is not None and owned_by not in self._owners_of(chunk):
                continue
            if q is not None and q not in self._text_of(chunk):
                continue
            if rules is not None and rules.isdisjoint(self._rules_of(chunk)):
                continue
            first, last = max(start, chunk * CHUNK), min(stop, (chunk + 1) * CHUNK)
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
        return (self[first : first + CHUNK] for first in range(0, len(self), CHUNK))
