"""Imports of whole catalogues: what changes, what stays, and what is refused."""

import itertools
from contextlib import contextmanager, nullcontext, suppress

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.administration.imports import Importer
from app.catalog.errors import (
    InvalidValue,
    PlanChanged,
    RosterError,
    RowsRefused,
    StoreUnavailable,
    ValidationFailed,
)
from app.catalog.lifecycle import boundaries_of, rfc3339
from app.catalog.visibility import ANONYMOUS, is_visible
from tests.administration.conftest import ANNA, Roster
from tests.sql import before_statements

#: A day, and a moment (Unix seconds) one second after its end.
ENDS, BEGINS = "2028-01-14", 1_831_507_201


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
        ({"fields": {"available_from": BEGINS, "shutdown_date": ENDS}}, "shutdown_date"),
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


@pytest.mark.databases("sqlite", "postgresql")
def test_a_failure_of_any_statement_changes_nothing(roster, log, monkeypatch):
    """If the n-th statement of an import fails, all is as before; then the same import works."""
    roster.update({"id": "a", "name": "A", "aliases": ["x"]}, {"id": "b", "aliases": ["y"]})
    rows = [{"id": "a", "name": "B", "aliases": ["y"]}, {"id": "c", "aliases": ["x"]}]
    before = roster.entries(), log(), roster.revision
    open_transaction = roster.store.transaction
    left = 0

    def fail(*_):
        nonlocal left
        left -= 1
        if not left:
            raise sa.exc.OperationalError("", {}, Exception("disk I/O error"))

    @contextmanager
    def failing(**given):
        with open_transaction(**given) as transaction, before_statements(fail):
            yield transaction

    monkeypatch.setattr(roster.store, "transaction", failing)
    for number in itertools.count(1):
        left = number
        try:
            report = roster.update(*rows, prune=True)
        except StoreUnavailable:
            assert before == (roster.entries(), log(), roster.revision)
        else:
            break

    assert number > 7
    assert (["c"], ["b"]) == (report["added"], report["removed"])
    assert {"a": ["y"], "c": ["x"]} == {i: m.aliases for i, m in roster.entries().items()}


@pytest.mark.databases("sqlite", "postgresql")
def test_a_change_between_plan_and_transaction_is_not_lost(roster, monkeypatch):
    """The plan is made again from what is stored then, so that the person's edit stays."""
    roster.update({"id": "a", "name": "A", "type": "image"})
    other = Roster(roster.store.settings, lambda: 0)
    transaction = roster.store.transaction

    def slow(**given):
        monkeypatch.undo()
        other.edit("a", name="by hand")
        other.add("mine")
        return transaction(**given)

    monkeypatch.setattr(roster.store, "transaction", slow)
    report = roster.update({"id": "a", "name": "B", "type": "video"}, {"id": "mine"})
    other.store.close()

    assert ["type"] == [*report["changed"][0]["fields"]]
    assert ["by hand"] == [kept["stored"] for kept in report["kept"]]
    assert {"a": ("by hand", "video", "openai"), "mine": (None, None, None)} == {
        i: (m.name, m.type, m.source) for i, m in roster.entries().items()
    }


#: What a person does between plan and transaction, and whether the plan is made again for it.
LATER = [
    (lambda other: other.add("mine"), False),
    (lambda other: other.edit("old", name="by hand"), False),
    (lambda other: other.add("mine", aliases=["new"]), True),
    (lambda other: other.add("mine", aliases=["x"]), True),
    (lambda other: other.add("new"), True),
    (lambda other: other.edit("a", name="by hand"), True),
    (lambda other: other.remove("same"), True),
    (lambda other: other.add("mine", deprecation_replacement_model="a"), True),
    (lambda other: other.update({"id": "more"}), True),
]


ROWS = [{"id": "a", "name": "B", "aliases": ["x"]}, {"id": "same"}, {"id": "new"}]


def begun(roster):
    roster.add("old")
    roster.update({"id": "a", "name": "A"}, {"id": "same"}, {"id": "gone"})
    return roster


def facts(roster):
    names = ("name", "aliases", "source", "deprecation_replacement_model")
    return {i: [getattr(m, name) for name in names] for i, m in roster.entries().items()}


@pytest.mark.parametrize(("change", "is_made_again"), LATER)
def test_a_plan_holds_after_changes_that_do_not_matter(
    new_roster, monkeypatch, change, is_made_again
):
    """It is made again for changes that may matter alone, and the outcome is always the same."""
    roster, twin = begun(new_roster()), begun(new_roster())
    change(twin)
    twin.update(*ROWS, prune=True)
    other = Roster(roster.store.settings, lambda: 0)
    transaction, plan = roster.store.transaction, Importer.plan
    planned = []

    def slow(**given):
        monkeypatch.setattr(roster.store, "transaction", transaction)
        change(other)
        return transaction(**given)

    def counted(importer, snapshot):
        planned.append(importer.file.ids >= {"new"})
        return plan(importer, snapshot)

    monkeypatch.setattr(roster.store, "transaction", slow)
    monkeypatch.setattr(Importer, "plan", counted)
    roster.update(*ROWS, prune=True)
    other.store.close()

    assert facts(twin) == facts(roster)
    assert (2 if is_made_again else 1) == planned.count(True)


IDS = st.sampled_from("abcdef")
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"id": IDS},
        optional={
            "name": st.sampled_from("NM"),
            "aliases": st.lists(st.sampled_from("abcdxy"), max_size=2, unique=True),
            "deprecation_replacement_model": IDS,
        },
    ),
    max_size=4,
    unique_by=lambda item: item["id"],
)


def changed(roster, items, removed):
    """Change a catalogue as a person does, as far as the rules let one."""
    for item in items:
        with suppress(RosterError):
            fields = {name: value for name, value in item.items() if name != "id"}
            roster.administration.replace_model(item["id"], fields, actor=ANNA)
    for model_id in removed:
        with suppress(RosterError):
            roster.remove(model_id)


@pytest.mark.slow
def test_any_change_between_plan_and_transaction_counts(new_roster, monkeypatch):
    """The outcome is that of an import which begins after the change, whatever the change is."""

    # An alias of the file becomes free, which was left out before.
    @example(
        first=[], own=[{"id": "b"}], file=[{"id": "a", "aliases": ["b"]}], later=[], removed="b"
    )
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(first=ITEMS, own=ITEMS, file=ITEMS, later=ITEMS, removed=st.sets(IDS, max_size=2))
    def each(first, own, file, later, removed):
        roster, twin = new_roster(), new_roster()
        for one in (roster, twin):
            one.update(*first)
            changed(one, own, ())
        changed(twin, later, removed)
        rows = [*file, {"id": "z"}]
        twin.update(*rows, prune=True)
        other = Roster(roster.store.settings, lambda: 0)
        transaction = roster.store.transaction

        def slow(**given):
            monkeypatch.undo()
            changed(other, later, removed)
            return transaction(**given)

        monkeypatch.setattr(roster.store, "transaction", slow)
        roster.update(*rows, prune=True)
        expected, got = facts(twin), facts(roster)
        for one in (roster, twin, other):
            one.store.close()

        assert expected == got

    each()


@pytest.mark.databases("sqlite", "postgresql")
def test_a_change_between_plan_and_transaction_is_refused_with_a_revision(roster, monkeypatch):
    """A plan that was shown is not made again."""
    roster.update({"id": "a", "name": "A"})
    other = Roster(roster.store.settings, lambda: 0)
    transaction = roster.store.transaction
    for change, is_refused in [
        (lambda: other.add("mine"), False),
        (lambda: other.edit("a", name="by hand"), True),
    ]:

        def slow(change=change, **given):
            monkeypatch.undo()
            change()
            return transaction(**given)

        revision = roster.revision
        monkeypatch.setattr(roster.store, "transaction", slow)
        with pytest.raises(PlanChanged) if is_refused else nullcontext():
            roster.update({"id": "a", "name": f"B{revision}"}, revision=revision)
    other.store.close()

    assert "by hand" == roster.entries()["a"].name


def test_a_prune_leaves_what_others_have_brought(roster):
    """Nothing of another source or of a person goes, and nothing whose row is refused."""
    roster.update({"id": "a"}, {"id": "b"}, {"id": "twice"})
    roster.update({"id": "other"}, source="other")
    roster.add("mine")
    rows = [{"id": "a"}, {"id": "twice", "name": "1"}, {"id": "twice", "name": "2"}]
    report = roster.update(*rows, prune=True, partial=True)

    assert (["b"], ["twice", "twice"]) == (
        report["removed"],
        [row["id"] for row in report["refused"]],
    )
    assert ["a", "mine", "other", "twice"] == sorted(roster.entries())


def is_seen(roster, model_id):
    """Return whether somebody sees the entry at any of its boundaries, or a year before them."""
    model = roster.entries()[model_id]
    moments = [*boundaries_of(model)]
    times = [*moments, min(moments) - 365 * 24 * 60 * 60]
    return any(is_visible(model, ANONYMOUS, now) for now in times)


def test_a_row_that_retires_before_it_appears_is_seen_by_nobody(roster):
    """Both dates are stored, with a warning: without one the entry would be seen after all."""
    rows = [{"id": i, "available_from": BEGINS, "shutdown_date": ENDS} for i in "ab"]
    roster.update({"id": "a"})
    report = roster.update(*rows)
    moments = f"which is {rfc3339(BEGINS)}, not {ENDS} (00:00 UTC)"
    sentence = (
        "Nobody will see '{}'. shutdown_date: Must be after available_from, "
        f"{moments}: change one of them, or remove the entry."
    )

    assert [False, False] == [is_seen(roster, i) for i in "ab"]
    assert [sentence.format("a"), sentence.format("b")] == report["warnings"]
    assert [] == report["degraded"]

    again = roster.update(*rows)
    renamed = roster.update(*[{**row, "name": "N"} for row in rows])

    assert ([], []) == (again["warnings"], renamed["warnings"])

    mended = roster.update(*[{**row, "shutdown_date": "2029-01-31"} for row in rows])

    assert [] == mended["warnings"]
    assert [True, True] == [is_seen(roster, i) for i in "ab"]


def test_an_upcoming_entry_that_its_source_has_no_more_never_appears(roster):
    """With ``retire`` it gets the day, and is seen by nobody if that is before it appears."""
    roster.update({"id": "a", "available_from": BEGINS}, {"id": "b"})
    report = roster.update({"id": "b"}, retire=ENDS)

    assert ENDS == roster.entries()["a"].shutdown_date
    assert not is_seen(roster, "a")
    assert report["warnings"][0].startswith("Nobody will see 'a'. ")


@pytest.mark.parametrize("person", [{"available_from": BEGINS}, {"shutdown_date": ENDS}])
def test_a_persons_date_that_contradicts_the_rows_stays(roster, person):
    """So nobody sees the entry, as both want: one not so early, the other not so long."""
    other = {"available_from": BEGINS, "shutdown_date": ENDS}.items() - person.items()
    roster.update({"id": "a"})
    roster.edit("a", **person)
    report = roster.update({"id": "a", **dict(other)})

    assert not is_seen(roster, "a")
    assert (1, []) == (len(report["warnings"]), report["degraded"])


@pytest.mark.parametrize("rows", [[], [{"id": 7}], [{"id": "x", "name": "1"}, {"id": "x"}]])
@pytest.mark.parametrize("options", [{"prune": True}, {"retire": "2028-01-15"}])
def test_a_file_without_a_model_prunes_nothing(roster, rows, options):
    """It is refused: the source was broken, rather than all of its models gone."""
    roster.update({"id": "a"})
    before = roster.entries()
    [name] = options
    with pytest.raises(InvalidValue, match=f"has no model: with '{name}' all 1") as refused:
        roster.update(*rows, partial=True, **options)

    assert name == refused.value.param
    assert before == roster.entries()


@pytest.mark.parametrize(
    "file",
    [
        b'{"data": [{"id": "a", "created": 5, "permission": [{"organization": "acme"}]}]}',
        b'{"id": "a"}\n{"id": "b"}\n',
        b"id,name,pricing.prompt\na,A,0.000001\n",
        b"a\nb\n",
        b'{"a": {"litellm_provider": "x", "input_cost_per_token": 1e-06}}',
        b'{"p": {"models": {"a": {"cost": {"input": 1}, "release_date": "2025-01-31"}}}}',
        b'{"models": [{"name": "a:latest", "model": "a:latest", "details": {"family": "x"}}]}',
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"hidden": True, "prune": True, "fields": {"tags": ["x"]}}]
)
def test_the_same_file_twice_changes_nothing(roster, clock, file, options):
    """Neither a revision nor a line is taken, also later and with another answer to conflicts."""
    roster.take(file, **options)
    before = roster.revision, roster.entries()
    for on_conflict in ("fail", "skip", "update"):
        clock.now += 1
        report = roster.take(file, on_conflict=on_conflict, **options)

        assert (before, before[0]) == ((roster.revision, roster.entries()), report["revision"])
        assert (len(before[1]), []) == (report["unchanged"], report["refused"])


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_an_alias_does_not_stop_an_import(roster, on_conflict):
    """A row whose id is an alias by now is refused, or skipped where conflicts are."""
    roster.add("a", aliases=["x"])
    with pytest.raises(RowsRefused):
        roster.take([{"id": "x"}, {"id": "y"}])
    report = roster.take([{"id": "x"}, {"id": "y"}], on_conflict=on_conflict)

    assert (["y"], []) == (report["added"], report["refused"])
    assert [
        {"id": "x", "field": "id", "message": "The model 'x' is an alias of 'a' already."}
    ] == (report["skipped"])


def test_a_wrong_value_removes_no_right_one(roster):
    """A field that the file has with a value that is left out stays as it is."""
    roster.update({"id": "a", "context_length": 8192, "knowledge_cutoff": "2025-01"})
    report = roster.update({"id": "a", "context_length": "many", "knowledge_cutoff": "2025-31"})

    assert (1, 2) == (report["unchanged"], len(report["degraded"]))
    assert 8192 == roster.entries()["a"].context_length


def test_a_conflict_names_the_source(roster):
    """A row that differs from the entry of another source names that source."""
    roster.take([{"id": "a", "name": "A"}], source="proxy")
    shown = roster.take([{"id": "a", "name": "B"}], source="other", dry_run=True)

    assert ["Exists already from proxy, with another name"] == [
        refused["message"].partition(":")[0] for refused in shown["refused"]
    ]


def test_the_time_of_a_request_is_no_change(roster):
    """Some servers list the time of the request as `created`: it counts for a new entry alone."""
    roster.update({"id": "a", "created": 1000})
    report = roster.update({"id": "a", "created": 2000})

    assert (1, []) == (report["unchanged"], report["changed"])
    assert 1000 == roster.entries()["a"].created
