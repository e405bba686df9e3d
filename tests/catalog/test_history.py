"""What the log says of an entry: who has set which of its fields."""

import pytest

from app.catalog.history import Setters, read_lines
from app.catalog.ports import Line


def imported(*fields, source="s", removed=False):
    return Line(f"import:{source}", {*fields}, is_removal=removed, source=source)


def by_person(*fields, source=None, removed=False):
    return Line("model.update", {*fields}, is_removal=removed, source=source)


@pytest.mark.parametrize(
    ("lines", "held", "own", "is_removed"),
    [
        ([], "", "", False),
        ([by_person("a")], "", "", False),
        ([imported("a", "b"), by_person("a")], "a", "b", False),
        ([imported("a"), by_person("a"), imported("a")], "", "a", False),
        ([imported("a"), by_person("a"), imported("b")], "a", "b", False),
        ([imported("a", "b"), imported("a", source="t")], "", "b", False),
        ([by_person("a", source="s"), by_person("b")], "ab", "", False),
        ([by_person("a", source="t"), by_person("b")], "", "", False),
        ([imported("a"), by_person("a", removed=True)], "", "", True),
        ([by_person("a"), by_person("a", removed=True)], "", "", False),
        ([imported("a"), by_person("a"), imported("a", removed=True)], "", "", False),
        (
            [imported("a"), by_person("b"), imported("b", removed=True), imported("a")],
            "",
            "a",
            False,
        ),
        ([imported("a"), by_person("a", removed=True), by_person("a")], "", "", False),
    ],
)
def test_who_has_set_the_fields(lines, held, own, is_removed):
    """A person holds what it has changed since the source wrote the entry; a removal ends that."""
    assert Setters({*held}, {*own}, is_removed) == read_lines(lines, "s")
