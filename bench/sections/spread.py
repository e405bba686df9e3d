"""How connections spread over the workers: requests and CPU of each, direct and through nginx."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.catalogue import Catalogues
from bench.figures import Spread, number, ratios, spread
from bench.findings import Findings, Table
from bench.lanes import pids
from bench.load import Target, check, wrk
from bench.plan import ROOT, Plan
from bench.processes import PATIENCE, Server, ServerFailed, cpu_seconds, idle_seconds, settle
from bench.servers import SITE, nginx_front, roster

NAME = "spread"

SIZE = 300
ROUTE = "/v1/models"
#: The most seconds of one load: there are many of them.
SECONDS = 2
CONNECTIONS = (16, 64, 256)
CASES = [
    (way, workers, connections)
    for way in ("direct", "nginx")
    for workers in (2, 4)
    for connections in CONNECTIONS
]

#: A way, a number of workers and of connections.
Case = tuple[str, int, int]
#: Figures by their names, of one load.
Load = dict[str, float]
#: Who serves, and the case; a load for each fresh start.
Loads = dict[tuple[str, Case], list[Load]]


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Start gunicorn afresh for each load, in turn with one worker and with another tree."""
    found = Findings(NAME)
    instance = catalogues.of(SIZE).instance
    cases = [case for case in CASES if not plan.cases or _name(case) in plan.cases]
    if shutil.which("nginx") is None or not SITE.exists():
        found.note("Without nginx and deploy/nginx/roster.conf there is nothing through nginx.")
        cases = [case for case in cases if case[0] == "direct"]
    if not cases:
        return found
    trees = {"service": ROOT} | ({"tree": plan.tree.resolve()} if plan.tree else {})
    loads: Loads = {}
    for turn in range(plan.rounds):
        for way in dict.fromkeys(way for way, _, _ in cases):
            counts = sorted({connections for one, _, connections in cases if one == way})
            starts = [(1, counts), *((n, [count]) for one, n, count in cases if one == way)]
            for workers, connections in starts:
                for who, tree in trees.items():
                    with _started(plan.folder, instance, way, workers, tree) as (server, front):
                        for count in connections:
                            case = way, workers, count
                            load = _load(server, front, count, min(plan.seconds, SECONDS))
                            loads.setdefault((who, case), []).append(load)
                            _show(turn, plan, who, case, load)
    for who in trees:
        report(found, loads, who, cases)
    found.note(
        "Each load goes to workers that have just started, and the worst of these starts is shown "
        "beside the median. One worker is started once for all its loads. The share is what the "
        "workers use of the CPU that wrk, nginx and whatever else runs leave: the rest is idle."
    )
    return found


@contextmanager
def _started(
    folder: Path, instance: Path, way: str, workers: int, tree: Path
) -> Iterator[tuple[Server, Server]]:
    """Give a gunicorn whose workers all serve, and what its readers connect to."""
    through = way == "nginx"
    with roster(instance, workers=workers, unix=through, log=True, tree=tree) as server:
        deadline = time.monotonic() + PATIENCE
        while len(server.workers()) != workers:
            if time.monotonic() > deadline:
                raise ServerFailed(f"gunicorn did not start {workers} workers")
            time.sleep(0.01)
        settle(server)  # until then, they import the application and load the entries
        if through:
            with nginx_front(folder, server, cached=False) as front:
                yield server, front
        else:
            yield server, server
    server.out.unlink()


def _load(server: Server, front: Server, connections: int, seconds: int) -> Load:
    """Load the workers once; requests of each are counted in the access log."""
    target = Target(front, ROUTE)
    check(target)
    workers = server.workers()
    settle(server)
    served = pids(server, ROUTE)
    before = {pid: cpu_seconds(pid) for pid in workers}
    idle = idle_seconds()
    _, per_second, p50, p99 = wrk(target, seconds, connections)
    idle = idle_seconds() - idle
    cpu = [cpu_seconds(pid) - seconds for pid, seconds in before.items()]
    settle(server)
    served = pids(server, ROUTE) - served
    return {
        "busiest": busiest([served[pid] for pid in workers]),
        "busiest_cpu": busiest(cpu),
        "per_second": per_second,
        "p50": p50,
        "p99": p99,
        "cpu": sum(cpu) / served.total() * 1e6,
        "share": sum(cpu) / (sum(cpu) + idle),
    }


def busiest(values: Sequence[float]) -> float:
    """Return the greatest value over the mean of all."""
    return max(values) * len(values) / sum(values)


def _name(case: Case) -> str:
    return " ".join(map(str, case))


def _show(turn: int, plan: Plan, who: str, case: Case, load: Load) -> None:
    figures = "  ".join(f"{name} {number(value)}" for name, value in load.items())
    sys.stderr.write(f"{turn + 1}/{plan.rounds}  {who:<8}{_name(case):<13} {figures}\n")


def report(found: Findings, loads: Loads, who: str, cases: Sequence[Case]) -> None:
    """Add the table of one tree and its figures: of each load, and the worst of all loads."""
    table = Table(
        f"{SIZE} entries, workers of four threads"
        + (", of the other tree" if who == "tree" else ""),
        (
            "way",
            "workers",
            "connections",
            "busiest over mean, worst",
            "busiest over mean",
            "the same by CPU",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "CPU µs",
            "share of the CPU left",
            "CPU over one worker",
            "p99 over the other tree",
        ),
    )
    prefix = NAME if who == "service" else f"{NAME}.{who}"
    single = [(way, 1, count) for way, count in dict.fromkeys((c[0], c[2]) for c in cases)]
    shown = (*loads[who, cases[0]][0], "over_one", "p99_over_tree")
    for case in (*single, *cases):
        own = loads[who, case]
        figures: dict[str, Spread] = {part: spread(one[part] for one in own) for part in own[0]}
        if case not in single:
            figures["over_one"] = _over(own, loads[who, (case[0], 1, case[2])], "cpu")
        if who == "service" and ("tree", case) in loads:
            figures["p99_over_tree"] = _over(own, loads["tree", case], "p99")
        figures["worst"] = spread([figures["busiest"].most])
        found.data |= {f"{prefix}.{_dotted(case)}.{part}": one for part, one in figures.items()}
        cells = (str(figures[part]) if part in figures else "" for part in ("worst", *shown))
        table.rows.append((*map(str, case), *cells))
    found.tables.append(table)
    for part, worst in (("share", min), ("over_one", max), ("p99_over_tree", max)):
        for way, workers in dict.fromkeys(case[:2] for case in cases):
            name = f"{prefix}.{way}.{workers}"
            of_each = [found.data.get(f"{name}.{count}.{part}") for count in CONNECTIONS]
            if known := [one for one in of_each if one is not None]:
                found.data[f"{name}.{part}"] = worst(known, key=lambda one: one.median)


def _over(ours: Sequence[Load], theirs: Sequence[Load], part: str) -> Spread:
    return ratios([one[part] for one in ours], [one[part] for one in theirs])


def _dotted(case: Case) -> str:
    return ".".join(map(str, case))
