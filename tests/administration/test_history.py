"""The catalogue as it was, and changes that are taken back."""

import json
from contextlib import suppress

import pytest

from app.administration.history import plan_return
from app.catalog.errors import HistoryPruned, InvalidValue, ModelNotFound, RowsRefused
from app.catalog.history import LogFilter
from app.store.log import Log
from tests.administration.conftest import Roster

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_the_catalogue_as_it_was(roster):
    """At each earlier revision it is what the export was then, also after entries have gone."""
    exports = {roster.revision: roster.export()}
    for change in (
        lambda: roster.add("a", name="A"),
        lambda: roster.add("b"),
        lambda: roster.edit("a", name="B"),
        lambda: roster.update({"id": "a", "name": "C"}, {"id": "c"}, source="s"),
        lambda: roster.remove("b"),
    ):
        change()
        exports[roster.revision] = roster.export()

    assert exports == {revision: roster.export(as_of=revision) for revision in exports}


def test_an_act_is_taken_back(roster):
    """All that one import has done is gone; to take that back brings it again."""
    roster.add("a", name="A")
    before = roster.export()
    roster.update({"id": "a", "name": "B"}, {"id": "b"}, source="s")
    after = roster.export()
    undone = roster.undo()
    without = roster.export()
    redone = roster.undo()

    assert (before, ["b"], ["a"]) == (without, undone["removed"], [undone["changed"][0]["id"]])
    assert (after, ["b"]) == (roster.export(), redone["added"])


def test_an_entry_that_was_changed_again(roster):
    """It is refused, with who did that, unless force is given."""
    roster.add("a", name="A")
    roster.edit("a", name="B")
    revision = roster.revision
    roster.edit("a", name="C")
    with pytest.raises(RowsRefused, match=f"'a': Was changed again, at revision {revision + 1}"):
        roster.undo(revision)
    roster.undo(revision, force=True)

    assert "A" == roster.entries()["a"].name


def test_one_entry_of_an_act(roster):
    """With an act and an entry only that entry is taken back; with an entry, its last act."""
    roster.update({"id": "a"}, {"id": "b"}, {"id": "c"}, source="s")
    batch = roster.store.log.lines(LogFilter(), 1)[0].batch
    roster.undo(batch, "b")
    left = {*roster.entries()}
    with pytest.raises(ModelNotFound):
        roster.undo(None, "d")

    assert {"a", "c"} == left


def test_what_one_entry_was(roster):
    """Of one entry only its own change is read: others may have changed a million times."""
    roster.update({"id": "a"}, {"id": "b"}, source="s")
    revision = roster.revision
    for model_id in "ab":
        roster.edit(model_id, name="B")
    roster.remove("a")
    past = roster.store.log.past
    _, every = past(revision, roster.store.position())
    at, found = past(revision, roster.store.position(), "a")
    only, before = every["a"], past(0, roster.store.position(), "a")[1]

    assert {"a", "b"} == every.keys()
    assert ({"a": only}, only.revision) == (found, found["a"].revision)
    assert (int(roster.history.clock()), {"a": None}) == (at, before)
    assert {} == past(revision, roster.store.position(), "c")[1]


def test_returning_to_a_revision(roster):
    """All entries, or one of them, are what they were then; other changes are gone."""
    roster.add("a", name="A")
    roster.add("b", name="A")
    revision, before = roster.revision, roster.export()
    roster.edit("a", name="B")
    roster.remove("b")
    roster.add("c")
    roster.revert(revision, "a")
    names = {model.id: model.name for model in roster.entries().values()}
    roster.revert(revision)

    assert {"a": "A", "c": None} == names
    assert before == roster.export()


@pytest.mark.parametrize("when", ["99", "yesterday", "2999-01-01"])
def test_moments_that_cannot_be_shown(roster, when):
    """A revision that is not yet, what is no time, and the future are refused."""
    with pytest.raises(InvalidValue, match="as_of"):
        roster.export(as_of=when)


def test_before_the_log_begins(roster, sql):
    """It is said from where on the log has the history."""
    roster.add("a")
    roster.add("b")
    sql("UPDATE catalogue SET pruned = 2")
    with pytest.raises(HistoryPruned, match="before revision 2, of 2027-"):
        roster.export(as_of=1)

    assert b'"a"' in roster.export(as_of=2)


@pytest.mark.parametrize(
    "members", [{"owned_by": None}, {"architecture": 5}, {"source": 5}, {"tags": "x"}]
)
def test_an_entry_of_a_restored_log(roster, sql, members):
    """Where it is no entry as we store them, it is refused; a null is as if it were left out."""
    roster.add("a", name="A")
    roster.edit("a", name="B")
    [[text]] = sql("SELECT before FROM changes WHERE revision = 3")
    sql("UPDATE changes SET before = :text", text=json.dumps({**json.loads(text), **members}))
    if members != {"owned_by": None}:
        with pytest.raises(RowsRefused, match="'a': Cannot be stored as it was: "):
            roster.undo()
    else:
        roster.undo()

    entry = roster.entries()["a"]
    assert ("custom", None, None, None) == (
        entry.owned_by,
        entry.architecture,
        entry.source,
        entry.tags,
    )


def test_an_entry_without_a_change(roster):
    """The error says that it is an alias, or that the act or the log has not changed it."""
    with pytest.raises(InvalidValue, match="No entry was changed yet"):
        roster.undo()
    roster.add("a", aliases=["x"])
    roster.add("b")
    for call in (
        lambda: roster.undo(None, "x"),
        lambda: roster.undo(2, "x"),
        lambda: roster.revert(2, "x"),
    ):
        with pytest.raises(ModelNotFound, match="it is an alias, use 'a' instead"):
            call()
    with pytest.raises(InvalidValue, match="'b' is in the act of revision 2"):
        roster.undo(2, "b")


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (lambda other: other.add("mine"), False),
        (lambda other: other.edit("old", name="by hand"), False),
        (lambda other: other.add("mine", aliases=["x"]), True),
        (lambda other: other.add("mine", deprecation_replacement_model="a"), True),
        (lambda other: other.edit("a", name="by hand"), True),
        (lambda other: other.remove("a"), True),
    ],
)
@pytest.mark.parametrize(
    "act",
    [
        (lambda roster: roster.undo(4), False),
        (lambda roster: roster.revert(3, "a"), False),
        (lambda roster: roster.revert(3), True),
    ],
    ids=["undo", "revert one", "revert all"],
)
def test_a_change_between_plan_and_transaction(new_roster, monkeypatch, change, matters, act):
    """The plan is made again if it may matter, and the outcome is as if it had come before.

    What was then is read once, before other writers wait.
    """
    call, is_of_all = act
    roster, twin = new_roster(), new_roster()
    for each in (roster, twin):
        each.add("old")
        each.add("a", name="A", aliases=["x"])
        each.edit("a", name="B", aliases=None)
    change(twin)
    with suppress(RowsRefused):
        call(twin)
    other = Roster(roster.store.settings, lambda: 0)
    transaction, past, plans, reads = roster.store.transaction, Log.past, [], []

    def slow(**given):
        monkeypatch.setattr(roster.store, "transaction", transaction)
        change(other)
        return transaction(**given)

    def counted(*given):
        plans.append(plan_return(*given))
        return plans[-1]

    def reading(log, *given):
        reads.append(given)
        return past(log, *given)

    monkeypatch.setattr(roster.store, "transaction", slow)
    monkeypatch.setattr("app.administration.history.plan_return", counted)
    monkeypatch.setattr(Log, "past", reading)
    with suppress(RowsRefused):
        call(roster)
    other.store.close()

    def facts(each):
        return {i: (model.name, model.aliases) for i, model in each.entries().items()}

    assert facts(twin) == facts(roster)
    assert (2 if matters or is_of_all else 1) == len(plans)
    assert len(reads) <= 1
