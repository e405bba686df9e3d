"""What counting adds to a read, and what part that is of all that a read costs.

Under wrk, two servers without any difference are five percent apart on a busy machine, and one
microsecond cannot be seen. So what is added is measured in one process, where it can; all that a
read costs, by wrk.
"""

import json
import subprocess
import sys

from bench.catalogue import Catalogues
from bench.figures import ratios, spread
from bench.findings import Findings, Table
from bench.load import Target, measure
from bench.plan import ROOT, Plan
from bench.servers import roster

NAME = "metrics"

SIZE = 300


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Measure in one process and under wrk, in turn."""
    found = Findings(NAME)
    catalogue = catalogues.of(SIZE)
    counted: list[float] = []
    plain: list[float] = []
    served: list[float] = []
    for _ in range(plan.rounds):
        command = [sys.executable, "-m", "bench.counting", str(catalogue.instance)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        times = json.loads(done.stdout)
        counted.append(times["with"])
        plain.append(times["without"])
        with roster(catalogue.instance) as server:
            served.append(measure(Target(server), plan).cpu)
    added = [a - b for a, b in zip(counted, plain, strict=True)]
    percent = spread(100 * a / b for a, b in zip(added, served, strict=True))
    table = Table(f"The list of {SIZE} entries", ("what", "CPU"))
    for name, what, figure in (
        ("with", "in one process, with metrics, µs", spread(counted)),
        ("without", "in one process, without, µs", spread(plain)),
        ("added", "added, µs", spread(added)),
        ("in_process", "with over without, in one process", ratios(counted, plain)),
        ("served", "of the worker, by wrk, with metrics, µs", spread(served)),
        ("percent", "added, in percent of that", percent),
    ):
        found.data[f"metrics.{name}"] = figure
        table.rows.append((what, _shown(figure.median, figure.least, figure.most)))
    found.tables.append(table)
    found.note("What a worker publishes once a second, some 30 µs, is not in these figures.")
    return found


def _shown(*figures: float) -> str:
    median, least, most = (f"{figure:.3g}" for figure in figures)
    return f"{median} ({least} to {most})"
