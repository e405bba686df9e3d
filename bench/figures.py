"""Numbers of several rounds: the median and how far they were apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and the least and the greatest of them."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)}–{number(self.most)})"  # noqa: RUF001

    def as_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"median": self.median, "min": self.least, "max": self.most}


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of at least one value."""
    known = list(values)
    return Spread(median(known), min(known), max(known))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios, each of two values of the same round."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed."""
    known = sorted(values)
    return known[max(0, ceil(len(known) * percent / 100) - 1)]


def number(value: float) -> str:
    """Return `value` with as many digits as it is worth."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
