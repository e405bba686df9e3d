"""When an entry is live: its two dates, to the second."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.lifecycle import (
    boundaries_of,
    is_live,
    is_retired,
    shutdown_time,
    with_deprecation,
)
from app.catalog.model import Model

#: 2027-01-15T00:00:00Z
MIDNIGHT = 1_799_971_200


def entry(**fields):
    return Model(id="x", created=0, owned_by="custom", root="x", permission=(), **fields)


def test_without_dates_an_entry_is_always_live():
    """An entry without dates is live at any time, without boundaries."""
    forever = entry()

    assert [True, True, True] == [is_live(forever, now) for now in (0, MIDNIGHT, 2**40)]
    assert [] == list(boundaries_of(forever))


def test_an_entry_appears_at_its_second():
    """An entry is hidden before available_from and live from that very second on."""
    new = entry(available_from=MIDNIGHT)

    assert [False, False, True, True] == [
        is_live(new, now) for now in (0, MIDNIGHT - 0.001, MIDNIGHT, MIDNIGHT + 1)
    ]
    assert [MIDNIGHT] == list(boundaries_of(new))


def test_available_from_zero_is_a_date():
    """An available_from of 0 is a moment like any other, not an absent one."""
    old = entry(available_from=0)

    assert [False, True] == [is_live(old, now) for now in (-1, 0)]
    assert [0] == list(boundaries_of(old))


def test_an_entry_goes_at_midnight_utc():
    """An entry is gone from 00:00 UTC of its shutdown date on."""
    old = entry(shutdown_date="2027-01-15")

    assert MIDNIGHT == shutdown_time(old)
    assert [True, True, False, False] == [
        is_live(old, now) for now in (0, MIDNIGHT - 0.001, MIDNIGHT, MIDNIGHT + 1)
    ]
    assert [MIDNIGHT] == list(boundaries_of(old))


def test_an_entry_retires_at_its_shutdown_and_not_before_it_appears():
    """An entry that has not appeared yet is not live, but not retired either."""
    future = entry(available_from=MIDNIGHT)
    old = entry(shutdown_date="2027-01-15")

    assert [False, False] == [is_retired(future, now) for now in (MIDNIGHT - 1, MIDNIGHT + 1)]
    assert [False, True] == [is_retired(old, now) for now in (MIDNIGHT - 1, MIDNIGHT)]


def test_an_entry_may_be_over_before_it_begins():
    """An entry whose shutdown is not after its appearance is never live."""
    never = entry(available_from=MIDNIGHT, shutdown_date="2027-01-15")

    assert [False, False, False] == [
        is_live(never, now) for now in (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1)
    ]


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "2028-02-29", "9999-12-31"])
def test_every_date_of_the_calendar_has_a_midnight(day):
    """The first and the last date of the calendar, and a leap day, are dates."""
    moment = shutdown_time(entry(shutdown_date=day))

    assert (datetime.fromisoformat(f"{day}T00:00:00Z") - datetime(1970, 1, 1, tzinfo=UTC)) == (
        timedelta(seconds=moment)
    )


moments = st.integers(0, 2**32 - 1)


@given(moments, st.none() | moments, st.none() | st.dates())
def test_the_rule_is_that_of_the_calendar(now, available_from, shutdown_day):
    """At any time, an entry is live from its second of appearance to the day before shutdown."""
    day = None if shutdown_day is None else shutdown_day.isoformat()
    today = (datetime(1970, 1, 1) + timedelta(seconds=now)).date()  # noqa: DTZ001 - UTC it is
    expected = not (
        (available_from is not None and now < available_from)
        or (shutdown_day is not None and shutdown_day <= today)
    )
    dated = entry(available_from=available_from, shutdown_date=day)

    assert expected is is_live(dated, now)


@given(st.none() | moments, st.none() | st.dates(), moments, moments)
def test_an_entry_changes_at_its_boundaries_only(available_from, shutdown_day, one, other):
    """Between two moments with no boundary in between, an entry does not come or go."""
    day = None if shutdown_day is None else shutdown_day.isoformat()
    dated = entry(available_from=available_from, shutdown_date=day)
    early, late = sorted((one, other))
    passed = [moment for moment in boundaries_of(dated) if early < moment <= late]
    same = is_live(dated, early) is is_live(dated, late)

    assert same or passed


@pytest.mark.parametrize(
    "moment", ["2027-01-15T00:00:00Z", "2027-01-15t01:30:00.0+01:30", "2027-01-14T23:00:00-01:00"]
)
def test_an_entry_is_deprecated_from_its_moment_on(moment):
    """An entry becomes deprecated at its deprecation, and is otherwise the same."""
    old = entry(deprecation=moment)
    deprecated = with_deprecation(old, MIDNIGHT)

    assert [MIDNIGHT] == list(boundaries_of(old))
    assert with_deprecation(old, MIDNIGHT - 0.001) is old
    assert (True, False) == (deprecated.is_deprecated, old.is_deprecated)
    assert deprecated == old
    assert with_deprecation(deprecated, MIDNIGHT + 1) is deprecated
    assert not with_deprecation(deprecated, MIDNIGHT - 1).is_deprecated


def test_any_moment_that_is_taken_can_be_compared():
    """The first and the last moments of the calendar are moments like any other."""
    for moment in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-23:59"):
        assert [with_deprecation(entry(deprecation=moment), MIDNIGHT).is_deprecated] == [
            moment[0] == "0"
        ]
