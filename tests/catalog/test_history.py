"""What the log says of an entry: who has set which of its fields."""

import pytest

from app.catalog.history import Line, read_lines


def line(action, *fields, source=None, removed=False):
    before = dict.fromkeys(fields, 1)
    after = None if removed else {"source": source, **dict.fromkeys(fields, 2)}
    return Line(0, 0, "cli:anna", action, 0, None, "x", None, {"source": source, **before}, after)


def imported(*fields, source="s", removed=False):
    return line(f"import:{source}", *fields, source=source, removed=removed)


def by_person(*fields, source=None, removed=False):
    return line("model.update", *fields, source=source, removed=removed)


def returned(action):
    return line(action, "a", source="s")


def setters(lines):
    """Return who has set the fields, with revisions from 1 on; sets are texts."""
    numbered = (found._replace(revision=n) for n, found in enumerate(lines, 1))
    held, own, is_removed, _ = read_lines(numbered, "s")
    return "".join(sorted(held)), "".join(sorted(own)), is_removed


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
        ([imported("a"), by_person("a"), returned("undo:2")], "", "a", False),
        ([imported("a"), by_person("a"), imported("b"), returned("revert:2")], "a", "", False),
        ([imported("a"), returned("undo:1")], "", "", False),
        ([imported("a"), returned("undo:0")], "", "", False),  # of a restored log
        ([imported("a"), by_person("a", removed=True), returned("undo:2")], "", "a", False),
        (
            [imported("a"), by_person("a"), returned("undo:2"), returned("undo:3")],
            "a",
            "",
            False,
        ),
    ],
)
def test_who_has_set_the_fields(lines, held, own, is_removed):
    """A person holds what it has changed since the source wrote the entry; a removal ends that.

    What is taken back is as if it had not been.
    """
    assert (held, own, is_removed) == setters(lines)
