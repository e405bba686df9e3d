"""An index: by key the values that have it. Nobody changes one once it is made."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

Index = Mapping[_Key, frozenset[_Value]]
_Pairs = Iterable[tuple[_Key, _Value]]


def changed_index(
    index: Index[_Key, _Value],
    *,
    removed: _Pairs[_Key, _Value] = (),
    added: _Pairs[_Key, _Value] = (),
) -> Index[_Key, _Value]:
    """Return `index` without the pairs `removed` and with the pairs `added`.

    A pair that is in both stays. Where nothing changes, it is the same object.
    """
    lost: defaultdict[_Key, set[_Value]] = defaultdict(set)
    won: defaultdict[_Key, set[_Value]] = defaultdict(set)
    for key, value in removed:
        lost[key].add(value)
    for key, value in added:
        won[key].add(value)
    concerned = {key for key in lost.keys() | won.keys() if lost[key] != won[key]}
    if not concerned:
        return index
    result = dict(index)
    for key in concerned:
        values = result.pop(key, frozenset()) - lost[key] | won[key]
        if values:
            result[key] = values
    return result
