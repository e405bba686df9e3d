"""Imports of whole catalogues: what changes, what stays, and what is refused."""

import pytest

from app.catalog.errors import InvalidValue, PlanChanged, ValidationFailed


def test_a_file_is_added_in_one_transaction(roster, log):
    """Each row is an entry that remembers its source, and each has a line of one batch."""
    before = roster.revision
    report = roster.take([{"id": "a", "name": "A"}, {"id": "b"}], source="proxy")

    assert (["a", "b"], before + 2) == (report["added"], report["revision"])
    assert [("import:proxy", before + 1)] * 2 == [(x.action, x.batch) for x in log()[-2:]]
    assert {"a": ("A", "proxy"), "b": (None, "proxy")} == {
        i: (m.name, m.source) for i, m in roster.entries().items()
    }


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"on_conflict": "overwrite"}, "on_conflict"),
        ({"format": "xml"}, "format"),
        ({"source": "a b"}, "source"),
        ({"retire": "tomorrow"}, "retire"),
        ({"retire": "2027-02-30"}, "retire"),
        ({"fields": {"id": "x"}}, "id"),
        ({"fields": {"aliases": ["x"]}}, "aliases"),
        ({"fields": {"source": "x"}}, "source"),
        ({"fields": {"revision": 7}}, "revision"),
        ({"fields": {"capabilities": {}}}, "capabilities"),
        ({"fields": {"warnings": []}}, "warnings"),
        ({"fields": {"ownedby": "x"}}, "ownedby"),
        ({"fields": {"permission": None}}, "permission"),
        ({"fields": {"context_length": 1, "max_model_len": 2}}, "max_model_len"),
        ({"fields": {"context_length": 1, "max_input_tokens": 2}}, "max_input_tokens"),
    ],
)
def test_a_wrong_option_is_refused_before_the_file_is_read(roster, options, param):
    """The sentence is about the option, whatever the file is, and no failure is recorded."""
    with pytest.raises((InvalidValue, ValidationFailed)) as refusal:
        roster.take(b"\xff", **{"source": "mine", **options})

    assert (param, True) == (refusal.value.param, str(refusal.value).endswith((".", "?")))
    assert [] == roster.store.sources()


def test_fields_for_all_rows_have_their_other_names_too(roster):
    """What is set for all rows is what a body of an entry has."""
    roster.take([{"id": "a"}], fields={"max_model_len": 8.0, "object": "model", "tags": ["x"]})
    entry = roster.entries()["a"]

    assert (8, int, ["x"]) == (entry.context_length, type(entry.context_length), entry.tags)


@pytest.mark.parametrize(
    ("act", "is_refused"),
    [
        (lambda roster: roster.add("other"), False),
        (lambda roster: roster.edit("mine", name="by hand"), False),
        (lambda roster: roster.edit("changed", type="image"), True),
        (lambda roster: roster.edit("changed", name="by hand"), True),
        (lambda roster: roster.remove("changed"), True),
        (lambda roster: roster.add("new", name="by hand"), True),
        (lambda roster: roster.edit("gone", name="by hand"), True),
    ],
)
def test_a_plan_is_refused_when_what_it_shows_has_changed(roster, act, is_refused):
    """It is, even if less is left to do: a row that is now kept, skipped or refused was shown."""
    rows = [{"id": "changed", "name": "A"}, {"id": "same"}]
    roster.update(*rows, {"id": "gone"})
    roster.add("mine")
    rows = [{"id": "changed", "name": "B"}, {"id": "same"}, {"id": "new", "name": "N"}]
    options = {"on_conflict": "update", "prune": True, "partial": True}
    revision = roster.take(rows, dry_run=True, **options)["revision"]
    act(roster)
    before = roster.export()
    if is_refused:
        with pytest.raises(PlanChanged, match=f"after revision {revision}"):
            roster.take(rows, revision=revision, **options)

        assert before == roster.export()
    else:
        report = roster.take(rows, revision=revision, **options)

        assert (["new"], ["gone"]) == (report["added"], report["removed"])


def test_a_revision_that_is_not_there_yet_is_refused(roster):
    """A plan of another catalogue, or of one that was restored, is not applied."""
    with pytest.raises(InvalidValue, match="is at revision"):
        roster.take([{"id": "a"}], revision=roster.revision + 1)

    assert {} == roster.entries()
