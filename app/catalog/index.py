"""An index: a mapping of each key to its set of values, which never changes."""

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

    A pair that is in both stays. If nothing changes, `index` itself is returned.
    """
    old: defaultdict[_Key, set[_Value]] = defaultdict(set)
    new: defaultdict[_Key, set[_Value]] = defaultdict(set)
    for key, value in removed:
        old[key].add(value)
    for key, value in added:
        new[key].add(value)
    changed = {key for key in old.keys() | new.keys() if old[key] != new[key]}
    if not changed:
        return index
    result = dict(index)
    for key in changed:
        values = result.pop(key, frozenset()) - old[key] | new[key]
        if values:
            result[key] = values
    return result
