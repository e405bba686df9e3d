"""What is printed and kept: Markdown for people, JSON for programs, a chart."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import starmap
from typing import Any

from bench import chart, machine
from bench.figures import number
from bench.findings import Findings, Table, gathered
from bench.plan import RESULTS, Plan
from bench.targets import verdicts

INTRODUCTION = """\
Medians of interleaved rounds, with the least and the greatest. CPU is that of the worker
processes, for each request; one worker of four threads where nothing else is said. A ratio is of
two figures of the same round. CPU is the figure to trust: requests a second also depend on what
else ran. Pinned is with all threads of the worker on one core; else they are free to move."""

QUICK = """\
**A quick run, to test the bench: one short round; 10,000 entries stand for 100,000, and 1,000
reads for 10,000. Its figures are no results.**"""


def publish(findings: Sequence[Findings], plan: Plan, *, command: str, whole: bool) -> None:
    """Print everything; keep it as ``latest``, or as ``partial`` if it is not the `whole`."""
    facts = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": command,
        "rounds": f"{plan.rounds} of {plan.seconds} s, wrk -t1 -c{plan.connections}",
        **machine.describe(plan.folder),
    }
    text = document(findings, plan, facts)
    print(text)
    name = "latest" if whole else "partial"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    kept = {
        "facts": facts,
        "figures": {name: value.as_json() for name, value in gathered(findings).items()},
        "notes": [sentence for found in findings for sentence in found.notes],
    }
    (RESULTS / f"{name}.json").write_text(f"{json.dumps(kept, indent=1)}\n")
    drawing = chart.draw(gathered(findings))
    if drawing is not None:
        (RESULTS / ("reads.svg" if whole else "partial.svg")).write_text(drawing)


def document(findings: Sequence[Findings], plan: Plan, facts: Mapping[str, str]) -> str:
    """Return all of it in Markdown."""
    parts = [
        "# Measured side by side",
        INTRODUCTION,
        "\n".join(starmap("- {}: {}".format, facts.items())),
        markdown(verdicts(gathered(findings), quick=plan.quick)),
    ]
    if plan.quick:
        parts.insert(1, QUICK)
    for found in findings:
        parts.append(f"## {found.name.capitalize()}")
        parts += map(markdown, found.tables)
        if found.notes:
            parts.append("\n".join(f"- {sentence}" for sentence in found.notes))
    return "\n\n".join(parts) + "\n"


def short(kept: Mapping[str, Any]) -> str:
    """Return what `docs/measurements.md` shows of what was kept as JSON."""
    figures: Mapping[str, Mapping[str, float]] = kept["figures"]
    table = Table(
        "",
        (
            "entries",
            "CPU of a list, µs",
            "over a bare Flask view",
            "the same with a key",
            "naive Flask over ours",
        ),
    )
    for size in (1, 300, 2_500):
        names = (
            "200.service.cpu",
            "200.service.cpu_ratio",
            "200 key.service.cpu_ratio",
            "200.naive Flask.cpu_ratio",
        )
        found = [figures.get(f"reads.{size}.{name}") for name in names]
        cells = ["-" if one is None else number(one["median"]) for one in found]
        table.rows.append((f"{size:,}", *cells))
    facts = kept["facts"]
    return f"{rows(table)}\n\n{facts['measured']}, `.venv/bin/{facts['command']}`."


def markdown(table: Table) -> str:
    """Return a table in Markdown, under its title."""
    return f"### {table.title}\n\n{rows(table)}"


def rows(table: Table) -> str:
    """Return the rows of a table in Markdown, below its columns."""
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < table.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if place < table.words else "-" * (width + 1) + ":"
        for place, width in enumerate(widths)
    )
    return "\n".join([line(table.columns), f"|{rule}|", *map(line, table.rows)])
