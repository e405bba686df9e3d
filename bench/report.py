"""What is printed and kept: Markdown for people, JSON for programs, a chart for the README."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import starmap

from bench import chart, machine
from bench.findings import Findings, Table, gathered
from bench.plan import RESULTS, Plan
from bench.targets import verdicts

INTRODUCTION = """\
Medians of interleaved rounds, with the least and the greatest. CPU is that of the worker
processes, for each request; one worker of four threads where nothing else is said. A ratio is of
two figures of the same round. CPU is the figure to trust: requests a second also depend on what
else ran."""

QUICK = """\
**A quick run, to test the bench: one short round; 10,000 entries stand for 100,000, and 100 reads
for 1,000. Its figures are no results.**"""


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


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
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
    lines = [line(table.columns), f"|{rule}|", *map(line, table.rows)]
    return f"### {table.title}\n\n" + "\n".join(lines)
