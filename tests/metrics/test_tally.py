"""The tally loses nothing, though no lock guards it."""

import sys
import threading

import pytest

from app.catalog.errors import REFUSALS
from app.metrics.tally import BOUND_LABELS, BOUNDS, Tally


@pytest.fixture
def _hasty():
    """Let threads interrupt one another as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_a_request_is_counted_under_its_bound():
    """A bound counts what took no longer; the last has no end."""
    tally = Tally()
    for us in (0, 50, 51, 1_000_000, 1_000_001):
        tally.count_request("/v1/models", "openai", 200, us)
    counted = {key[4]: n for key, n in tally.totals().items() if key[0] == "requests"}

    assert {"5e-05": 2, "0.0001": 1, "1.0": 1, "+Inf": 1} == counted
    assert pytest.approx(2.000102) == tally.totals()["seconds", "/v1/models"]
    assert len(BOUNDS) + 1 == len(BOUND_LABELS)


def test_every_refusal_is_there_from_the_start():
    """A reason that was not met yet is a zero, so that its first time is seen as a rise."""
    tally = Tally()
    tally.count_refusal("revoked")
    counted = {key[1]: number for key, number in tally.totals().items()}

    assert {**dict.fromkeys(REFUSALS, 0), "revoked": 1} == counted


@pytest.mark.usefixtures("_hasty")
def test_threads_lose_no_request():
    """Four threads that count at the same time, and a reader, lose nothing."""
    tally = Tally()
    statuses = (200, 304, 401, 404)

    def count():
        for number in range(20_000):
            tally.count_request("/v1/models", "openai", statuses[number % 4], number)
            tally.count_refusal("unknown")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [0]
    while any(thread.is_alive() for thread in threads):
        seen.append(sum(n for key, n in tally.totals().items() if key[0] == "requests"))
    for thread in threads:
        thread.join()

    assert sorted(seen) == seen
    totals = tally.totals()
    assert 80_000 == sum(number for key, number in totals.items() if key[0] == "requests")
    assert 80_000 == totals["roster_key_refusals", "unknown"]
    assert pytest.approx(4 * sum(range(20_000)) / 1e6) == totals["seconds", "/v1/models"]
