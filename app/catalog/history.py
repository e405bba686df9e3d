"""What the log says of an entry: who has set which of its fields."""

from collections.abc import Iterable, Set
from typing import NamedTuple

from app.catalog.ports import Line


class Setters(NamedTuple):
    """Who has set the fields of an entry."""

    #: Those that a person has changed since the entry is of the source, and the source has not
    #: since.
    held: Set[str]
    #: Those that the source was the last to change.
    own: Set[str]
    #: Whether a person has removed the entry.
    is_removed: bool


def read_lines(lines: Iterable[Line], source: str) -> Setters:
    """Return who has set the fields, from the lines of the log of one entry, oldest first.

    An entry is of the source once that has written it, or an export has named the source.
    """
    held, own = set[str](), set[str]()
    is_ours = is_removed = False
    for line in lines:
        by_person = line.action.startswith("model.")
        is_removed = line.is_removal and by_person and is_ours
        if line.is_removal:
            held, own, is_ours = set(), set(), False
        elif line.action == f"import:{source}":
            held, own, is_ours = held - line.fields, own | line.fields, True
        else:
            own -= line.fields
            is_ours |= line.source == source
            if by_person and is_ours:
                held |= line.fields
    return Setters(held, own, is_removed)
