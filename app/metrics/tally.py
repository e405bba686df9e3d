"""What one process counts while it answers, in plain numbers: a request pays 0.3 µs.

No lock guards them. CPython hands the interpreter to another thread at calls and at loops, and
between the reading and the writing of ``numbers[place] += 1`` there is neither.
"""

from bisect import bisect_left
from collections import defaultdict

from app.catalog.errors import REFUSALS

#: Numbers that only grow, by what they count and its labels.
Totals = dict[tuple[str, ...], float]

#: The bounds of the latency histogram, in microseconds: from a ready reply to a whole second.
BOUNDS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 250_000, 1_000_000)
#: The same as labels, in seconds.
BOUND_LABELS = (*(str(bound / 1e6) for bound in BOUNDS), "+Inf")


class Tally:
    """Requests and refused keys since the process started, for any number of threads."""

    def __init__(self) -> None:
        # By route, dialect and status: how many under each bound, and their microseconds.
        self._requests: dict[tuple[str, str, int], list[int]] = {}
        # All from the start: a rate has nothing to say of a number's first appearance.
        self._refusals = dict.fromkeys(REFUSALS, 0)

    def count_request(self, route: str, dialect: str, status: int, us: int) -> None:
        """Count a request that was answered in `us` microseconds; `route` is a URL rule."""
        key = route, dialect, status
        try:
            counts = self._requests[key]
        except KeyError:
            counts = self._requests.setdefault(key, [0] * (len(BOUND_LABELS) + 1))
        counts[bisect_left(BOUNDS, us)] += 1
        counts[-1] += us

    def count_refusal(self, reason: str) -> None:
        """Count a key that was refused, for one of ``app.catalog.errors.REFUSALS``."""
        self._refusals[reason] += 1

    def totals(self) -> Totals:
        """Return ``requests`` by route, dialect, status and bound; ``seconds`` by route; refusals.

        Requests have the bounds that any came under, and no others.
        """
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (route, dialect, status), counts in self._requests.copy().items():  # others go on
            for bound, count in zip(BOUND_LABELS, counts, strict=False):
                if count:
                    found["requests", route, dialect, str(status), bound] = count
            found["seconds", route] += counts[-1] / 1e6
        for reason, count in self._refusals.items():
            found["roster_key_refusals", reason] = count
        return found
