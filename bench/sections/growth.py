"""What 100,000 entries cost: the first image, the list after a write, a page; and memory."""

import json
import subprocess
import sys
from contextlib import ExitStack
from urllib.parse import quote

from bench.catalogue import Catalogue, Catalogues, model_id
from bench.client import Connection, fetch
from bench.figures import Spread, ratios, spread
from bench.findings import Findings, Table
from bench.lanes import connections_to_each
from bench.load import Run, Target, measure
from bench.plan import ROOT, Plan
from bench.processes import memory
from bench.servers import roster

NAME = "growth"

SMALL = 300
#: Of the catalogue that many audiences share.
MIDDLE = 2_500


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Measure one after the other."""
    found = Findings(NAME)
    catalogue = catalogues.of(plan.largest)
    _first_image(found, plan, catalogue)
    _next_list(found, plan, catalogue)
    _pages(found, plan, catalogue, catalogues.of(SMALL))
    _memory(found, plan, catalogues)
    return found


def _memory(found: Findings, plan: Plan, catalogues: Catalogues) -> None:
    """Weigh a worker that has answered the list, to one caller and to many audiences."""
    table = Table(
        "Memory of one worker after its lists", ("entries, audiences", "RSS", "PSS", "USS MiB")
    )
    for size in (SMALL, MIDDLE, plan.times(20_000), plan.largest):
        _weigh(found, table, catalogues.of(size))
    for audiences in (1, 100, plan.times(2_000)):
        _weigh(found, table, catalogues.of(MIDDLE + audiences, organizations=audiences))
    found.tables.append(table)


def _weigh(found: Findings, table: Table, catalogue: Catalogue) -> None:
    audiences = len(catalogue.organization_keys)
    callers = [{}, *map(catalogue.read_as, range(audiences))]
    with roster(catalogue.instance) as server, Connection(server.port) as connection:
        for _ in range(2):
            for headers in callers:
                connection.get("/v1/models", headers)
        [worker] = server.workers()
        taken = {part: spread([mib]) for part, mib in memory(worker).items()}
    name = f"{catalogue.size - audiences}.{audiences}"
    found.data |= {f"growth.memory.{name}.{part}": mib for part, mib in taken.items()}
    shown = f"{catalogue.size - audiences:,}, {audiences:,}"
    table.rows.append((shown, *map(str, taken.values())))


def _first_image(found: Findings, plan: Plan, catalogue: Catalogue) -> None:
    probes = [_probe(catalogue) for _ in range(plan.rounds)]
    figures = {name: spread(probe[name] for probe in probes) for name in probes[0]}
    found.data |= {f"growth.{name}": value for name, value in figures.items()}
    table = Table(
        f"A fresh process, {catalogue.size:,} entries", ("step", "seconds", "MiB, its own")
    )
    for step, name in (("import", "import"), ("first image", "image"), ("first list", "list")):
        seconds, mebibytes = figures[f"{name}_seconds"], figures[f"{name}_mib"]
        table.rows.append((step, str(seconds), str(mebibytes)))
    table.rows.append(("the list's bytes", "", str(figures["list_bytes_mib"])))
    found.tables.append(table)


def _probe(catalogue: Catalogue) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.probe", catalogue.instance],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    [line] = [line for line in done.stdout.splitlines() if "import_seconds" in line]
    measured: dict[str, float] = json.loads(line)  # the access line stands there, too
    return measured


def _next_list(found: Findings, plan: Plan, catalogue: Catalogue) -> None:
    after: dict[int, list[float]] = {}
    idle: dict[int, list[float]] = {}
    first_bytes: list[float] = []
    path = f"/admin/models/{model_id(catalogue.size // 2)}"
    with ExitStack() as stack:
        server = stack.enter_context(roster(catalogue.instance, workers=2, log=True))
        readers = stack.enter_context(connections_to_each(server))
        writer = stack.enter_context(Connection(server.port))
        for turn in range(2 * plan.rounds):
            written = writer.send("PATCH", path, catalogue.admin, {"name": f"turn {turn}"})
            if written.status != 200:
                raise ConnectionError(f"a PATCH was answered with {written.status}")
            for worker in sorted(readers, reverse=bool(turn % 2)):
                answer = readers[worker][0].get("/v1/models")
                after.setdefault(worker, []).append(answer.seconds * 1000)
                first_bytes.append(answer.first_byte * 1000)
                answer = readers[worker][0].get("/v1/models")
                idle.setdefault(worker, []).append(answer.seconds * 1000)
    table = Table(
        f"The whole list of {catalogue.size:,} entries, two workers",
        ("list", "ms, to the last byte"),
    )
    slowest = max(map(spread, after.values()), key=lambda value: value.median)
    unchanged = spread(ms for times in idle.values() for ms in times)
    found.data |= {
        "growth.next_list": slowest,
        "growth.next_list_first_byte": spread(first_bytes),
        "growth.same_list": unchanged,
    }
    table.rows += [
        ("nothing changed", str(unchanged)),
        ("after a write, the slower worker", str(slowest)),
        ("after a write, to the first byte", str(spread(first_bytes))),
    ]
    found.tables.append(table)


def _pages(found: Findings, plan: Plan, large: Catalogue, small: Catalogue) -> None:
    with roster(small.instance) as few, roster(large.instance) as many:
        ids = [entry["id"] for entry in fetch(many.port, "/v1/models").json["data"]]
        targets = {f"{small.size:,} entries, first": Target(few, "/v1/models?limit=100")}
        places = (("first", None), ("middle", len(ids) // 2), ("last", len(ids) - 101))
        for place, index in places:
            after = "" if index is None else f"&after={quote(ids[index], safe='')}"
            name = f"{large.size:,} entries, {place}"
            targets[name] = Target(many, f"/v1/models?limit=100{after}")
        runs: dict[str, list[Run]] = {name: [] for name in targets}
        for _ in range(plan.rounds):
            for name, target in targets.items():
                runs[name].append(measure(target, plan))
    table = Table("A page of 100", ("page", "CPU µs", "p50 ms", "p99 ms", "CPU ratio"))
    cpu = {name: [run.cpu for run in done] for name, done in runs.items()}
    yardstick = next(iter(cpu))
    worst: list[Spread] = []
    for name, done in runs.items():
        ratio = ratios(cpu[name], cpu[yardstick])
        worst.append(ratio)
        p50, p99 = spread(run.p50 for run in done), spread(run.p99 for run in done)
        table.rows.append((name, str(spread(cpu[name])), str(p50), str(p99), str(ratio)))
    found.data["growth.page"] = max(worst[1:], key=lambda ratio: ratio.median)
    found.tables.append(table)
