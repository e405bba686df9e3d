"""Imports beside the changes of persons: what these have changed stays, and is reported."""

import json

import pytest

NEXT_YEAR = "2028-01-15"


def kept(report):
    return [(k["id"], k["field"], k["stored"], k["given"]) for k in report["kept"]]


def test_what_a_person_has_changed_stays_until_it_is_forced(roster):
    """It survives two imports that change other fields, and each reports it; ``force`` ends it."""
    roster.update({"id": "a", "name": "A", "context_length": 1})
    roster.edit("a", context_length=5)
    for name in ("B", "C"):
        report = roster.update({"id": "a", "name": name, "context_length": 2})

        assert [("a", "context_length", 5, 2)] == kept(report)
        assert (name, 5) == (roster.entries()["a"].name, roster.entries()["a"].context_length)
    report = roster.update({"id": "a", "name": "C", "context_length": 2}, force=True)

    assert ([], 2) == (kept(report), roster.entries()["a"].context_length)

    report = roster.update({"id": "a", "name": "C", "context_length": 3})

    assert ([], 3) == (kept(report), roster.entries()["a"].context_length)


def test_a_field_that_only_differs_by_a_person_is_no_conflict(roster):
    """A row whose other fields are equal is unchanged, and not refused."""
    roster.take([{"id": "a", "name": "A"}])
    roster.edit("a", name="B")
    report = roster.take([{"id": "a", "name": "A"}])

    assert (1, [], [("a", "name", "B", "A")]) == (
        report["unchanged"],
        report["refused"],
        kept(report),
    )


def test_a_field_that_a_person_has_removed_stays_away(roster):
    """A row that still has it does not bring it back."""
    roster.update({"id": "a", "name": "A"})
    roster.edit("a", name=None)
    report = roster.update({"id": "a", "name": "A"})

    assert ([("a", "name", None, "A")], None) == (kept(report), roster.entries()["a"].name)


def test_a_field_that_the_source_no_longer_has_goes(roster):
    """One that it has set goes; one that a person has set or changed, or another source, stays."""
    roster.update({"id": "a", "name": "A", "context_length": 1, "max_output_tokens": 1})
    roster.edit("a", max_output_tokens=2, description="by hand")
    roster.update({"id": "a", "type": "language"}, source="other")
    roster.update({"id": "a", "context_length": 1, "max_output_tokens": 1})
    entry = roster.entries()["a"]

    assert (None, 1, 2, "by hand", "language") == (
        entry.name,
        entry.context_length,
        entry.max_output_tokens,
        entry.description,
        entry.type,
    )

    roster.update({"id": "a"})
    entry = roster.entries()["a"]

    assert (None, 2, "by hand", "openai") == (
        entry.context_length,
        entry.max_output_tokens,
        entry.description,
        entry.source,
    )


def test_what_a_person_has_removed_is_not_added_again(roster):
    """The row is skipped, twice too, until it is forced; then the entry is the source's again."""
    roster.update({"id": "a", "name": "A"})
    roster.remove("a")
    for _ in range(2):
        report = roster.update({"id": "a", "name": "B"})

        assert ([], ["a"]) == (report["added"], [row["id"] for row in report["skipped"]])
    report = roster.update({"id": "a", "name": "B"}, force=True)

    assert ["a"] == report["added"]

    roster.update({"id": "a", "name": "C"})

    assert "C" == roster.entries()["a"].name


def test_what_the_source_has_removed_is_added_again(roster):
    """An entry that a prune has removed comes back with its row."""
    roster.update({"id": "a"}, {"id": "b"})
    roster.update({"id": "b"}, prune=True)
    report = roster.update({"id": "a"}, {"id": "b"})

    assert ["a"] == report["added"]


def test_what_a_person_has_added_is_no_ones_source(roster):
    """An import may change it, and it does not become the source's: no prune removes it."""
    roster.add("a", name="A")
    roster.update({"id": "a", "name": "B"}, {"id": "b"})
    report = roster.update({"id": "b"}, prune=True)

    assert ([], "B", None) == (
        report["removed"],
        roster.entries()["a"].name,
        roster.entries()["a"].source,
    )


def test_a_change_by_an_older_program_counts(roster, sql):
    """Its lines have neither mark nor batch, and its documents members of their own."""
    roster.update({"id": "a", "name": "A"})
    [document] = sql("SELECT document FROM models")
    after = json.dumps({**json.loads(document[0]), "name": "B", "new": {"x": 1}})
    sql("UPDATE models SET document = :after, revision = revision + 1", after=after)
    sql(
        "INSERT INTO changes (revision, at, actor, action, model_id, before, after) SELECT "
        "revision + 1, 0, 'cli:old', 'model.update', 'a', :before, :after FROM catalogue",
        before=document[0],
        after=after,
    )
    sql("UPDATE catalogue SET revision = revision + 1")
    report = roster.update({"id": "a", "name": "C", "type": "image"})

    assert ([("a", "name", "B", "C")], "image") == (kept(report), roster.entries()["a"].type)
    assert {"new": {"x": 1}} == roster.entries()["a"].unknown_members


def test_a_change_after_a_move_of_the_catalogue_counts(roster, new_roster):
    """A catalogue that was exported and imported elsewhere still knows each entry's source."""
    roster.update({"id": "a", "name": "A", "type": "image"}, source="proxy")
    moved = new_roster()
    moved.take(roster.export())
    moved.edit("a", name="B")
    report = moved.update({"id": "a", "name": "C", "type": "video"}, source="proxy")

    assert ([("a", "name", "B", "C")], "video") == (kept(report), moved.entries()["a"].type)

    moved.remove("a")

    assert [] == moved.update({"id": "a"}, source="proxy")["added"]


def test_a_field_that_contradicts_what_a_person_has_changed_is_left_out(roster):
    """The person's field stays, and the row's is reported."""
    roster.update({"id": "a", "context_length": 8, "max_input_tokens": 8})
    roster.edit("a", max_input_tokens=6)
    report = roster.update({"id": "a", "context_length": 4, "max_input_tokens": 4})
    entry = roster.entries()["a"]

    assert (8, 6) == (entry.context_length, entry.max_input_tokens)
    assert [("a", "context_length")] == [(d["id"], d["field"]) for d in report["degraded"]]


def test_a_retirement_that_a_person_has_taken_back_stays_so(roster):
    """The next import with the same day reports it; what it has dated comes alive with its row."""
    rows = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    roster.update(*rows)
    roster.update({"id": "c"}, prune=True, retire=NEXT_YEAR)
    roster.edit("a", shutdown_date=None, deprecation=None)
    report = roster.update({"id": "c"}, prune=True, retire=NEXT_YEAR)

    assert ("a", "shutdown_date", None, NEXT_YEAR) in kept(report)
    assert {"a": None, "b": NEXT_YEAR, "c": None} == {
        i: m.shutdown_date for i, m in roster.entries().items()
    }

    roster.update(*rows)

    assert {None} == {m.shutdown_date for m in roster.entries().values()}
    assert {None} == {m.deprecation for m in roster.entries().values()}


def test_hidden_entries_stay_so_until_somebody_releases_them(roster):
    """Their rows have permissions, which a later import of the same file does not bring."""
    row = {"id": "a", "permission": [{"organization": "*"}]}
    roster.update(row, hidden=True)
    report = roster.update({**row, "name": "A"}, hidden=True)

    assert (["a"], ()) == ([c["id"] for c in report["changed"]], roster.entries()["a"].permission)

    roster.edit("a", permission=[{"organization": "acme"}])
    roster.update({**row, "name": "B"}, hidden=True)

    assert ["acme"] == [p.organization for p in roster.entries()["a"].permission]


def test_the_hidden_entries_of_an_export_stay_so(roster, new_roster):
    """Its rows have everything, and are not shown by a second import of them."""
    roster.add("a", name="A")
    other = new_roster()
    for name in ("A", "B"):
        roster.edit("a", name=name)
        other.take(roster.export(), hidden=True, on_conflict="update")

    assert (name, ()) == (other.entries()["a"].name, other.entries()["a"].permission)


@pytest.mark.parametrize("patch", [{"name": "B"}, {"owned_by": "me"}, {"permission": []}])
def test_a_change_of_any_kind_of_field_counts(roster, patch):
    """Required fields, optional ones and the permissions."""
    row = {"id": "a", "name": "A", "owned_by": "x", "permission": [{"organization": "acme"}]}
    roster.update(row)
    roster.edit("a", **patch)
    before = roster.entries()
    report = roster.update(row)

    assert ([*patch], before) == ([field for _, field, *_ in kept(report)], roster.entries())
