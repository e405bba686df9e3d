"""When a thread lets other requests go on before it asks the database."""

import pytest

from app.store.opening import Opening, Pace

#: Seconds.
FAST = 0.5


@pytest.fixture
def calls():
    return []


@pytest.fixture
def answered(settings, clock, calls):
    """Return what lets the database answer after some seconds, and others go on before it."""
    opening = Opening(settings, clock, monotonic=clock)
    opening.call_before_waiting = lambda: calls.append(clock())
    pace = Pace(opening, FAST)

    def answer(seconds):
        began = pace.before()
        clock.now += seconds
        pace.after(began)

    return answer


def test_nobody_goes_on_before_a_fast_answer(answered, calls):
    """Nor after some slow ones between which there was a fast one."""
    for seconds in [2 * FAST] * 19 + [0] + [2 * FAST] * 19:
        answered(seconds)

    assert [] == calls


def test_others_go_on_while_answers_are_slow(answered, calls, clock):
    """For a second after 20 in a row; then it is seen whether they still are."""
    for _ in range(20):
        answered(2 * FAST)
    since = clock()
    for _ in range(4):
        answered(FAST / 2)

    assert [since + turn * FAST / 2 for turn in range(4)] == calls
    answered(0)
    assert 4 == len(calls)
