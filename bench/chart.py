"""The chart of reads as SVG: CPU a request by size of the catalogue, both on a log scale."""

from collections.abc import Iterator, Mapping
from html import escape
from math import ceil, floor, log10

from bench.figures import Spread, number

#: Subject, its label, and its colour on a light and on a dark page.
LINES = (
    ("naive Flask", "naive Flask", "#c2410c", "#fb923c"),
    ("bare Flask", "bare Flask view", "#6b7280", "#9ca3af"),
    ("service", "Roster", "#1d4ed8", "#60a5fa"),
    ("bare WSGI", "bare WSGI callable", "#15803d", "#4ade80"),
    ("nginx static", "nginx static file", "#7e22ce", "#c084fc"),
)

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 180, 62, 52
#: The least distance of two labels, in pixels.
_APART = 17

Series = dict[str, dict[int, float]]


def draw(data: Mapping[str, Spread]) -> str | None:
    """Return the SVG, or None if fewer than two sizes were measured."""
    series = _series(data)
    sizes = sorted({size for points in series.values() for size in points})
    if len(sizes) < 2:
        return None
    values = [value for points in series.values() for value in points.values()]
    axes = _Axes(sizes, max(0, floor(log10(min(values)))), ceil(log10(max(values))))
    body = "\n".join([*_grid(axes), *_curves(axes, series)])
    light = "\n".join(_colour(n, line[2]) for n, line in enumerate(LINES))
    dark = "\n".join(_colour(n, line[3]) for n, line in enumerate(LINES))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" \
role="img" aria-labelledby="title description">
<title id="title">CPU for one GET /v1/models, by entries in the catalogue</title>
<desc id="description">{escape(_description(series))}</desc>
<style>
  text {{ font: 13px system-ui, Helvetica, Arial, sans-serif; fill: #374151 }}
  .head {{ font-size: 16px; font-weight: 600; fill: #111827 }}
  .grid {{ stroke: #d1d5db; stroke-width: 1 }}
  .curve {{ fill: none; stroke-width: 2 }}
  .ours {{ stroke-width: 3.5 }}
{light}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #d1d5db }}
    .head {{ fill: #f9fafb }}
    .grid {{ stroke: #4b5563 }}
{dark}
  }}
</style>
<text class="head" x="{_LEFT}" y="24">CPU for one GET /v1/models</text>
<text x="{_LEFT}" y="44">time of the worker process, log scale; the same bytes from everyone</text>
{body}
<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">\
entries in the catalogue, log scale</text>
</svg>
"""


class _Axes:
    """Where a value stands, in pixels."""

    def __init__(self, sizes: list[int], low: int, high: int) -> None:
        self.sizes = sizes
        self.decades = range(low, high + 1)
        self._span = log10(sizes[-1]) - log10(sizes[0])

    def x(self, size: int) -> float:
        """Return the place of a size."""
        share = (log10(size) - log10(self.sizes[0])) / self._span
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Return the place of a cost in µs."""
        low, high = self.decades[0], self.decades[-1]
        share = (log10(value) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _series(data: Mapping[str, Spread]) -> Series:
    """Return µs by subject and size."""
    series: Series = {}
    for name, value in data.items():
        match name.split("."):
            case ["reads", size, "200", who, "cpu"]:
                series.setdefault(who, {})[int(size)] = value.median
    return {line[0]: series[line[0]] for line in LINES if line[0] in series}


def _colour(place: int, colour: str) -> str:
    # No variables: not every viewer of SVG knows them.
    return (
        f"  .s{place} .curve {{ stroke: {colour} }} "
        f".s{place} .dot, .s{place} .label {{ fill: {colour} }}"
    )


def _unit(decade: int) -> str:
    """Return a power of ten of µs in the unit that people would use."""
    unit, power = next((u, p) for u, p in (("s", 6), ("ms", 3), ("µs", 0)) if decade >= p)
    return f"{10 ** (decade - power)} {unit}"


def _grid(axes: _Axes) -> Iterator[str]:
    for decade in axes.decades:
        y = axes.y(10**decade)
        yield (
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_unit(decade)}</text>'
        )
    for size in axes.sizes:
        yield (
            f'<text x="{axes.x(size):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
            f'text-anchor="middle">{size:,}</text>'
        )


def _curves(axes: _Axes, series: Series) -> Iterator[str]:
    places = _label_places(axes, series)
    for place, (who, label, *_) in enumerate(LINES):
        if who not in series:
            continue
        points = [(axes.x(size), axes.y(cpu)) for size, cpu in sorted(series[who].items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        ours = " ours" if who == "service" else ""
        yield f'<g class="s{place}"><polyline class="curve{ours}" points="{path}"/>'
        for x, y in points:
            yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        weight = ' font-weight="700"' if ours else ""
        yield (
            f'<text class="label" x="{_WIDTH - _RIGHT + 12}" y="{places[who] + 4:.1f}"{weight}>'
            f"{escape(label)}</text></g>"
        )


def _label_places(axes: _Axes, series: Series) -> dict[str, float]:
    """Return the height of each label: beside its curve's end, and not over another."""
    ends = sorted((axes.y(points[max(points)]), who) for who, points in series.items())
    places: dict[str, float] = {}
    lowest = float("-inf")
    for y, who in ends:
        lowest = max(y, lowest + _APART)
        places[who] = lowest
    return places


def _description(series: Series) -> str:
    parts = []
    for who, points in series.items():
        told = ", ".join(f"{number(cpu)} µs at {size:,}" for size, cpu in sorted(points.items()))
        parts.append(f"{who}: {told}")
    return "; ".join(parts)
