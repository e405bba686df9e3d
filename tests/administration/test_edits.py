"""Edits and removals of many entries at once: as asked for, or not at all."""

from functools import partial

import pytest

from app.administration.edits import select_ids
from app.administration.plans import Applying, report
from app.catalog.errors import PlanChanged, RowsRefused, ValidationFailed
from tests.administration.conftest import ANNA


def edit(roster, patch, *ids, **applying):
    """Edit or remove the entries with these ids, and return the report."""
    applied = roster.catalogues.edit_models(
        partial(select_ids, ids), patch, Applying(**applying), actor=ANNA
    )
    return report(applied, dry_run=applying.get("dry_run", False))


@pytest.fixture(autouse=True)
def _three(roster):
    """Three entries, one of which has an alias and another is replaced by it."""
    roster.add("a", name="A", metadata={"k": "1"}, aliases=["x"])
    roster.add("b", metadata={"l": "2"}, deprecation_replacement_model="a")
    roster.add("c")


def test_one_patch_changes_many(roster, log):
    """It merges as one of a single entry does, and each entry has a line of the log."""
    before = roster.revision
    shown = edit(roster, {"owned_by": "me", "metadata": {"m": "3"}}, "a", "b", dry_run=True)
    done = edit(roster, {"owned_by": "me", "metadata": {"m": "3"}}, "a", "b", "a")

    assert shown["changed"] == done["changed"]
    assert (before, before + 2, ["a", "b"]) == (
        shown["revision"],
        done["revision"],
        [change["id"] for change in done["changed"]],
    )
    assert [("model.update", before + 1)] * 2 == [(x.action, x.batch) for x in log()[-2:]]
    assert [{"k": "1", "m": "3"}, {"l": "2", "m": "3"}] == [
        roster.entries()[i].metadata for i in "ab"
    ]


def test_many_are_removed_with_a_warning(roster):
    """An entry that others name as their replacement goes, and the report says so."""
    done = edit(roster, None, "a", "c")

    assert (["a", "c"], ["b"]) == (done["removed"], [*roster.entries()])
    assert ["'a' goes, which is the replacement of 'b'."] == done["warnings"]


@pytest.mark.parametrize(
    ("patch", "ids", "wrong"),
    [
        (None, "abz", "The model 'z' does not exist."),
        (None, "ax", "it is an alias, use 'a' instead."),
        ({"aliases": ["n"]}, "ab", "The model 'n' is an alias of 'a' already."),
        ({"deprecation_replacement_model": "b"}, "ac", "Must not lead back to this entry"),
        ({"metadata": {str(n): "" for n in range(16)}}, "abc", "at most 16 pairs"),
    ],
)
def test_what_one_entry_cannot_have_no_entry_gets(roster, patch, ids, wrong):
    """One refusal is enough: nothing is changed, and a dry run shows every refusal."""
    before = roster.entries()
    with pytest.raises(RowsRefused, match=wrong):
        edit(roster, patch, *ids)

    assert before == roster.entries()
    assert wrong in " ".join(
        r["message"] for r in edit(roster, patch, *ids, dry_run=True)["refused"]
    )


@pytest.mark.parametrize("patch", [{"id": "z"}, {"owned_by": None}, {"nmae": "x"}])
def test_a_wrong_patch_is_refused_at_once(roster, patch):
    """It would be wrong for every entry."""
    with pytest.raises(ValidationFailed):
        edit(roster, patch)


def test_an_edit_that_was_shown_is_applied_to_what_was_shown(roster):
    """A change of one of its entries since then refuses it; a change of another does not."""
    revision = edit(roster, {"name": "N"}, "a", "b", dry_run=True)["revision"]
    roster.edit("c", name="C")
    edit(roster, {"name": "N"}, "a", revision=revision)
    with pytest.raises(PlanChanged, match="'a' changed after"):
        edit(roster, None, "a", "b", revision=revision)

    assert ["a", "b", "c"] == sorted(roster.entries())


def test_an_edit_that_changes_nothing_takes_no_revision(roster):
    """All entries are so already."""
    before = roster.revision
    done = edit(roster, {"owned_by": "custom"}, "a", "b", "c")

    assert (3, before, before) == (done["unchanged"], done["revision"], roster.revision)
