"""What was, where the store moves on meanwhile, has lost changes, or had a wrong clock."""

import pytest

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
