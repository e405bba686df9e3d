"""What the log says of an entry: who has set which of its fields."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.history import Line, deciding, read_lines


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


class Entry:
    """An entry with a random history: of two sources, persons, removals, undos and reverts."""

    ACTIONS = (*3 * ["import:s", "model."], *2 * ["import:t"], *3 * ["return"], "remove")

    def __init__(self, seed):
        self.random = Random(seed)
        self.revision = 0
        self.lines = []
        self.states = {0: None}

    def go_on(self, number, first):
        """Add lines; those that return do so to the revision `first` or later."""
        for _ in range(number):
            self.revision += self.random.randint(1, 2)  # another entry may have one in between
            before = self.states[max(self.states)]
            action = self.random.choice(self.ACTIONS)
            if action == "return":
                revision = self.random.randint(first, self.revision - 1)
                after = self.states[max(known for known in self.states if known <= revision)]
                action = self.random.choice([f"undo:{revision + 1}", f"revert:{revision}"])
            elif action == "remove":
                action, after = self.random.choice(["import:s", "import:t", "model."]), None
            else:
                fields = self.random.sample("abc", self.random.randint(0, 3))
                after = {"id": "x", **(before or {}), **dict.fromkeys(fields, self.revision)}
                if self.random.random() < 0.2:
                    after["source"] = self.random.choice("st")
            if before != after or before is not None:
                facts = (self.revision, 0, "anna", action, self.revision, None, "x", None)
                self.lines.append(Line(*facts, before, after))
                self.states[self.revision] = after


def without(lines, pruned, share=1.0):
    """Return lines after a pruning, of which so large a `share` is done."""
    unchanged, needed = deciding(reversed(lines), pruned)
    removed = [x.revision for x in lines if x.revision <= unchanged and x.revision not in needed]
    removed = removed[: round(share * len(removed))]
    return [line for line in lines if line.revision not in removed]


@given(st.integers(), st.lists(st.integers(0, 12), min_size=4, max_size=4), st.floats(0, 1))
def test_lines_that_decide_are_left(seed, numbers, share):
    """A pruning, also one that was interrupted, leaves who has set what, at each revision."""
    entry, pruned, left = Entry(seed), 0, []
    for number, share_done in zip(numbers, (1, share, 1, share), strict=True):
        entry.go_on(number, pruned)
        left += [line for line in entry.lines if line not in left and line.revision > pruned]
        pruned = entry.random.randint(pruned, entry.revision)
        left = without(left, pruned, share_done)
    entry.go_on(6, pruned)
    left += [line for line in entry.lines if line not in left and line.revision > pruned]
    for revision in range(pruned, entry.revision + 1):
        for source in "st":
            every, some = (
                read_lines([x for x in lines if x.revision <= revision], source)
                for lines in (entry.lines, left)
            )

            assert every == some


def test_few_lines_are_left():
    """A field that an import has set a thousand times has one line, a removed entry has two.

    An entry that is of no source has none but the one that begins the log.
    """
    nightly = [imported("a")._replace(revision=number) for number in range(1, 1001)]
    removed = by_person("a", removed=True)._replace(revision=1001)
    by_hand = [by_person("a")._replace(revision=number) for number in range(1, 1001)]

    assert [nightly[0], *nightly[-2:]] == without(nightly, 999)
    assert [by_hand[-1]] == without(by_hand, 1000)
    assert [nightly[0], removed] == without([*nightly, removed], 1001)
