"""What was, where the store moves on meanwhile, has lost changes, or had a wrong clock."""

import pytest

from app.catalog.errors import HistoryPruned, RowsRefused, StoreUnavailable
from app.catalog.filters import Filter, Selection
from app.catalog.history import LogFilter
from tests.administration.conftest import Roster

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def other(settings, clock, roster):
    """Another process with the same database, as far as the store can tell."""
    other = Roster(settings, clock)
    yield other
    other.store.close()


@pytest.fixture
def before_read(roster, monkeypatch):
    """What does something once, just before the log is read by one of its methods."""

    def arrange(method, act):
        read = getattr(roster.store.log, method)

        def acting(*given):
            monkeypatch.setattr(roster.store.log, method, read)
            act()
            return read(*given)

        monkeypatch.setattr(roster.store.log, method, acting)

    return arrange


def test_the_present_by_its_revision(roster, clock):
    """As of the last revision it is the moment of that change, as it will be after the next."""
    roster.add("a", shutdown_date="2027-01-16")
    clock.now += 100_000
    current = roster.catalog.current()
    at_last = roster.history.as_of(roster.history.find("2", current), current)
    roster.add("b")
    current = roster.catalog.current()
    later = roster.history.as_of(roster.history.find("2", current), current)

    live = Selection(condition=Filter(hidden=False))
    assert (
        ["a"]
        == [m.id for m in live.page(at_last).models]
        == [m.id for m in live.page(later).models]
    )


@pytest.mark.parametrize("when", ["revision", "time"])
def test_a_change_between_the_list_and_the_log(roster, other, before_read, clock, when):
    """What was at an earlier moment is the same, whoever writes while it is read."""
    roster.add("a", name="A")
    roster.add("b")
    revision, before, time = roster.revision, roster.export(), int(clock.now)
    clock.now += 10
    roster.edit("a", name="B")

    def change():
        other.remove("a")
        other.add("c")
        other.edit("b", name="C")

    before_read("past", change)

    assert before == roster.export(as_of=revision if when == "revision" else time)


def test_a_change_between_the_list_and_its_time(roster, other, before_read, clock, monkeypatch):
    """As of now it has the change of another process, or is not shown in an outage."""
    roster.add("a", name="A")
    before_read("revision_at", lambda: other.edit("a", name="B"))

    assert b'"B"' in roster.export(as_of=int(clock.now))
    before_read("revision_at", lambda: other.edit("a", name="C"))
    with monkeypatch.context() as patch:
        stale = roster.catalog.last
        patch.setattr(roster.catalog, "current", lambda: stale)
        with pytest.raises(StoreUnavailable):
            roster.export(as_of=int(clock.now))


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_change_while_a_return_is_planned(roster, other, before_read, dry_run):
    """It goes back to what was at the revision, from what is there when it is written."""
    roster.add("a", name="A")
    revision, before = roster.revision, roster.export()
    roster.edit("a", name="B")

    def change():
        other.edit("a", name="C")
        other.add("b")

    before_read("past", change)
    report = roster.revert(revision, dry_run=dry_run)
    [shown] = report["changed"]

    assert {"old": "B" if dry_run else "C", "new": "A"} == shown["fields"]["name"]
    assert dry_run == (before != roster.export())


def test_a_change_while_an_undo_is_planned(roster, other, before_read):
    """An entry that others change meanwhile is not taken back: the change is named."""
    roster.add("a", name="A")
    roster.edit("a", name="B")
    before_read("last_changes", lambda: other.edit("a", name="C"))
    [refused] = roster.undo(dry_run=True)["refused"]
    roster.undo(force=True)
    before_read("last_changes", lambda: other.edit("a", name="D"))
    with pytest.raises(RowsRefused, match="Was changed again, at revision 6 by cli:anna"):
        roster.undo()

    assert "Was changed again, at revision 4 by cli:anna." == refused["message"]
    assert "D" == roster.entries()["a"].name


def test_a_change_between_the_plan_and_its_transaction(roster, other, monkeypatch):
    """An undo whose entry is changed just before it is written is refused."""
    roster.add("a", name="A")
    roster.edit("a", name="B")
    transaction = roster.store.transaction

    def after_another(**given):
        monkeypatch.undo()
        other.edit("a", name="C")
        return transaction(**given)

    monkeypatch.setattr(roster.store, "transaction", after_another)
    with pytest.raises(RowsRefused, match="Was changed again, at revision 4"):
        roster.undo()

    assert "C" == roster.entries()["a"].name


@pytest.fixture
def lost(roster, other, sql):
    """What replaces the last change by another one with its revision, as a failover may."""

    def lose():
        last = roster.store.log.lines(LogFilter(), 1)[0]
        text = "UPDATE models SET document = (SELECT before FROM changes WHERE revision = :r)"
        sql(text + " WHERE id = :i", r=last.revision, i=last.model_id)
        sql("DELETE FROM changes WHERE revision = :r", r=last.revision)
        sql(
            "UPDATE catalogue SET revision = :r, mark = "
            "(SELECT mark FROM changes WHERE revision = :r)",
            r=last.revision - 1,
        )
        other.add("of the other history")

    return lose


def test_a_lost_change_between_the_list_and_the_log(roster, lost, before_read):
    """A list with a change that the log has lost is no list to go back from."""
    roster.add("a", name="A")
    roster.add("b")
    before = roster.export()
    roster.edit("a", name="B")
    before_read("past", lost)
    with pytest.raises(StoreUnavailable):
        roster.export(as_of=3)

    assert before == roster.export(as_of=3)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("way", ["undo", "revert"])
def test_a_change_lost_in_an_outage(roster, lost, way, dry_run):
    """While a worker does not read the store, it plans nothing from its last list."""
    roster.add("a", name="A")
    roster.add("b")
    roster.edit("a", name="B")
    roster.catalog.current()
    lost()
    roster.catalog.outage = "It does not answer."
    roster.catalog._retry_at = roster.catalog._monotonic() + 60
    with pytest.raises(StoreUnavailable):
        roster.undo(3, dry_run=dry_run) if way == "undo" else roster.revert(3, dry_run=dry_run)

    roster.catalog._retry_at = 0

    assert {"a", "b", "of the other history"} == {*roster.entries()}


def test_a_plan_is_made_again_for_what_is_stored(roster, lost, monkeypatch):
    """A list of the same revision, but of a lost change, is not what a change is planned from."""
    roster.add("a", name="A")
    roster.add("b")
    roster.edit("a", name="B")
    roster.catalog.current()
    lost()
    stale = roster.catalog.last
    monkeypatch.setattr(roster.catalog, "current_or_stale", lambda: (stale, False))
    with pytest.raises(StoreUnavailable):
        roster.undo(2, force=True)

    assert "A" == roster.entries()["a"].name


def test_an_act_that_is_only_in_part_in_the_log(roster, sql):
    """It is not taken back in part: its lines before the log begins are gone."""
    roster.update({"id": "a"}, {"id": "b"}, {"id": "c"}, source="s")
    roster.add("d")
    before = roster.export()
    sql("UPDATE catalogue SET pruned = 4")
    sql("DELETE FROM changes WHERE revision < 4")
    with pytest.raises(HistoryPruned):
        roster.undo(4)

    assert before == roster.export()
    roster.undo(5)

    assert {"a", "b", "c"} == {*roster.entries()}


#: The times of lines, by revision from 2 on; what was at a time, by revision.
CLOCKS = {
    "one that was ahead": ([100, 900, 110, 120], {99: 1, 100: 2, 105: 2, 110: 4, 950: 5}),
    "ahead and last": ([100, 110, 900], {105: 2, 115: 3, 900: 4, 950: 4}),
    "ahead during an act": ([100, 900, 900, 900, 110], {105: 2, 115: 6, 900: 6, 950: 6}),
    "one that began anew": ([100, 110, 5, 120, 130], {105: 2, 115: 4, 125: 5, 135: 6}),
    "one that was set back": ([100, 200, 150, 160, 210], {125: 2, 155: 4, 205: 5, 215: 6}),
}


@pytest.mark.parametrize(("times", "expected"), CLOCKS.values(), ids=CLOCKS)
def test_lines_of_a_wrong_clock(roster, sql, clock, times, expected):
    """A time is that of the last line up to it which no line of an earlier time follows.

    So a clock that was ahead for a while does not hide the changes after it.
    """
    start = int(clock.now)
    for number, seconds in enumerate(times, 2):
        roster.add(f"m{number}")
        sql("UPDATE changes SET at = :at WHERE revision = :r", at=start + seconds, r=number)
    clock.now += 10_000
    log = roster.store.log
    found = {after: log.revision_at(start + after) for after in expected}
    both = {
        after: [
            len(log.lines(LogFilter(since=start + after + 1), 100)),
            len(log.lines(LogFilter(until=start + after + 1), 100)),
        ]
        for after in expected
    }

    assert expected == found
    last = len(times) + 1
    assert {after: [last - revision, revision] for after, revision in expected.items()} == both
    for after, revision in expected.items():
        assert roster.export(as_of=revision) == roster.export(as_of=start + after)
