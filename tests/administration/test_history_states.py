"""What was, where the store moves on meanwhile, has lost changes, or had a wrong clock."""

import pytest

from app.catalog.history import LogFilter

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_the_present_by_its_revision(roster, clock):
    """As of the last revision it is the moment of that change, as it will be after the next."""
    roster.add("a", shutdown_date="2027-01-16")
    clock.now += 100_000
    current = roster.catalog.current()
    at_last = roster.history.as_of(roster.history.find("2", current), current)
    roster.add("b")
    current = roster.catalog.current()
    later = roster.history.as_of(roster.history.find("2", current), current)

    assert ["a"] == [m.id for m in at_last.audiences.live] == [m.id for m in later.audiences.live]


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
