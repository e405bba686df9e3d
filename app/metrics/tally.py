"""The requests and refusals of one process, counted at 0.3 µs for each request.

There is no lock. CPython switches threads at calls and at loops only, and there is neither between
the read and the write of ``numbers[index] += 1``.
"""

from bisect import bisect_left
from collections import defaultdict

from app.catalog.errors import REFUSALS

#: Counters by name and labels.
Totals = dict[tuple[str, ...], float]

#: The bounds of the latency histogram, in microseconds: from a cached reply to a whole second.
BOUNDS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 250_000, 1_000_000)
#: The same as labels, in seconds.
BOUND_LABELS = (*(str(bound / 1e6) for bound in BOUNDS), "+Inf")


class Tally:
    """Requests and refused keys since the process started, for any number of threads."""

    def __init__(self) -> None:
        # By route, dialect and status: the number of requests under each bound, and microseconds.
        self._requests: dict[tuple[str, str, int], list[int]] = {}
        # All from the start: Prometheus computes no rate from a counter's first appearance.
        self._refusals = dict.fromkeys(REFUSALS, 0)

    def count_request(self, route: str, dialect: str, status: int, us: int) -> None:
        """Count a request that took `us` microseconds; `route` is a URL rule."""
        key = route, dialect, status
        try:
            counts = self._requests[key]
        except KeyError:
            counts = self._requests.setdefault(key, [0] * (len(BOUND_LABELS) + 1))
        counts[bisect_left(BOUNDS, us)] += 1
        counts[-1] += us

    def count_refusal(self, reason: str) -> None:
        """Count a refused key; `reason` is one of ``app.catalog.errors.REFUSALS``."""
        self._refusals[reason] += 1

    def totals(self) -> Totals:
        """Return ``requests`` by route, dialect, status and bound; ``seconds`` by route; refusals.

        Bounds without requests are left out.
        """
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        # A copy: other threads go on counting.
        for (
            route,
            dialect,
            status,
        ), counts in self._requests.copy().items():
            for bound, count in zip(BOUND_LABELS, counts, strict=False):
                if count:
                    found["requests", route, dialect, str(status), bound] = count
            found["seconds", route] += counts[-1] / 1e6
        for reason, count in self._refusals.items():
            found["roster_key_refusals", reason] = count
        return found
