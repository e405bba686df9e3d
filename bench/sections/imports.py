"""Whole catalogues: what an import costs, and what readers and other writers see of it."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.catalogue import Catalogue, Catalogues
from bench.client import Connection, fetch
from bench.figures import percentile, ratios, spread
from bench.files import PACKAGE, is_installed, write_file
from bench.findings import Findings, Table
from bench.load import LoadFailed
from bench.meanwhile import Cost, watched, writing
from bench.plan import ROOT, Plan
from bench.processes import Server, children, cpu_seconds, memory
from bench.servers import roster

NAME = "imports"

SMALL = 5_000
#: Reads a second, on so many connections: half of what one worker can do while a child works.
RATE = 100
READERS = 8
READ = "/v1/models?limit=100"

_IMPORT = "/admin/import?prefix=1&on_conflict=update"


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Import in one process, by a command and by HTTP; read and write meanwhile."""
    found = Findings(NAME)
    if not is_installed():
        found.note(f"{PACKAGE} is not installed: nothing was imported.")
        return found
    small = plan.times(SMALL)
    _steps(found, plan, small)
    first = write_file(plan.folder / "small.json", small)
    second = write_file(plan.folder / "small-changed.json", small, name="changed")
    catalogue = catalogues.of(0)
    with roster(catalogue.instance) as server:
        _post(server, catalogue, first.read_bytes())
        files = (second.read_bytes(), first.read_bytes())
        _meanwhile(
            found, server, catalogue, small, files, rounds=plan.rounds, seconds=plan.seconds
        )
    _large(found, plan, catalogues)
    return found


def _steps(found: Findings, plan: Plan, size: int) -> None:
    """Weigh the steps of an import beside a parse and INSERTs alone."""
    path = write_file(plan.folder / "steps.json", size)
    rounds = []
    for number in range(plan.rounds):
        folders = [plan.folder / f"steps-{number}{end}" for end in ("", "-raw")]
        given = [folders[0], path, folders[1]]
        command = [sys.executable, "-m", "bench.importing", *map(str, given)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    table = Table(f"{size:,} entries of models.dev, imported in one process", ("step", "CPU s"))
    for step in rounds[0]:
        figure = spread(one[step] for one in rounds)
        found.data[f"imports.steps.{step}"] = figure
        table.rows.append((_STEPS[step], str(figure)))
    ratio = ratios([one["sum"] for one in rounds], [one["yardstick"] for one in rounds])
    found.data["imports.steps.ratio"] = ratio
    table.rows.append(("all of these over the yardstick", str(ratio)))
    found.tables.append(table)


_STEPS = {
    "parse": "parse, and map to our fields",
    "check": "check",
    "plan": "plan",
    "write": "write, with the log",
    "sum": "all of these",
    "yardstick": "json.loads, and INSERTs of the same rows and lines",
}


def _large(found: Findings, plan: Plan, catalogues: Catalogues) -> None:
    """Import a large file first, again, and with few changes; then read and write meanwhile."""
    size = plan.largest
    first = write_file(plan.folder / "large.json", size)
    few = write_file(plan.folder / "large-few.json", size, name="changed", every=100)
    files = {"first": first, "the same again": first, "1 % changed": few}
    table = Table(
        f"{size:,} entries of models.dev, {first.stat().st_size / 2**20:.0f} MiB",
        ("import", "wall s", "CPU s", "peak MiB", "above an idle worker", "others waited s"),
    )
    costs: dict[str, dict[str, Cost]] = {"command": {}, "HTTP": {}}
    idle: dict[str, float] = {}
    by_command, catalogue = catalogues.of(0), catalogues.of(0)
    for name, path in files.items():
        costs["command"][name] = _command(by_command.instance, path)
    with roster(catalogue.instance) as server:
        for name, path in files.items():
            [worker] = server.workers()
            idle[name] = memory(worker)["rss"]
            costs["HTTP"][name] = _post(server, catalogue, path.read_bytes())
            _get(server)  # the worker reads what has changed
    with roster(catalogue.instance) as server:  # with a snapshot of its own, as after a reload
        _get(server)
        changed = write_file(plan.folder / "large-changed.json", size, name="all changed")
        bodies = (changed.read_bytes(), first.read_bytes())
        _meanwhile(found, server, catalogue, size, bodies, rounds=1, seconds=plan.seconds)
    for way, by_name in costs.items():
        for name, cost in by_name.items():
            figures = {
                "wall": cost.wall,
                "cpu": cost.cpu,
                "peak": cost.peak,
                "above": cost.peak - idle[name],
                "waited": cost.waited,
            }
            shown = {part: spread([value]) for part, value in figures.items()}
            found.data |= {f"imports.{way}.{name}.{part}": v for part, v in shown.items()}
            table.rows.append((f"{way}, {name}", *map(str, shown.values())))
    found.tables.append(table)
    found.note(
        "The memory of an import is that of its process, a command or the child of a worker: the "
        "worker has its own beside it. The idle worker has the catalogue as it was before."
    )


def _command(instance: Path, path: Path) -> Cost:
    flask = Path(sys.executable).with_name("flask")
    command = [str(flask), "models", "import", str(path)]
    options = ["--prefix", "--on-conflict", "update", "--yes", "--json"]
    environ = {**os.environ, "ROSTER_INSTANCE_PATH": str(instance)}
    started = time.perf_counter()
    with (path.with_suffix(".out")).open("w+b") as out:
        process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=out, env=environ)
        with watched(lambda: [process.pid]) as cost:
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.wall = time.perf_counter() - started
        cost.cpu = usage.ru_utime + usage.ru_stime
        if process.returncode:
            raise LoadFailed(f"the command ended with {process.returncode}")
        out.seek(0)
        cost.answer = out.read()
    return cost


def _post(server: Server, catalogue: Catalogue, body: bytes, parameters: str = "") -> Cost:
    [worker] = server.workers()
    before = cpu_seconds(worker, ended_children=True)
    with (
        Connection(server.port) as connection,
        watched(lambda: children(worker)) as cost,
    ):
        answer = connection.send("POST", _IMPORT + parameters, catalogue.admin, body)
    if answer.status != 200:
        raise LoadFailed(f"an import was answered with {answer.status}: {answer.body[:500]!r}")
    cost.answer, cost.wall = answer.body, answer.seconds
    cost.cpu = cpu_seconds(worker, ended_children=True) - before
    return cost


def _meanwhile(
    found: Findings,
    server: Server,
    catalogue: Catalogue,
    size: int,
    files: Sequence[bytes],
    *,
    rounds: int,
    seconds: int,
) -> None:
    """Read, and write, in turn with nothing else going on, and while all entries are changed."""
    reads: dict[str, list[list[float]]] = {"idle": [], "importing": []}
    writes: dict[str, list[list[float]]] = {"idle": [], "importing": [], "dry run": []}
    waited: dict[str, list[float]] = {"importing": [], "dry run": []}
    refused: dict[str, int] = dict.fromkeys(writes, 0)
    rebuilds = []
    for turn in range(rounds):
        with _reading(server) as reads_idle:
            time.sleep(seconds)
        before = _rebuild_seconds(server)
        with _reading(server) as reads_busy:
            _post(server, catalogue, files[turn % 2])
            _get(server)  # the worker reads what has changed
        rebuilds.append((_rebuild_seconds(server) - before) * 1000)
        reads["idle"].append(reads_idle)
        reads["importing"].append(reads_busy)
        parameters = {"idle": None, "dry run": "&dry_run=1", "importing": ""}
        for kind, given in parameters.items():
            with writing(server, catalogue) as (times, bad):
                if given is None:
                    time.sleep(seconds)
                else:
                    cost = _post(server, catalogue, files[(turn + 1) % 2], given)
            if given is not None:
                waited[kind].append(cost.waited * 1000)
            writes[kind].append(times)
            refused[kind] += len(bad)
        if turn + 1 < rounds:
            _post(server, catalogue, files[turn % 2])
    _report_reads(found, size, reads, rebuilds)
    _report_writes(found, size, writes, waited, refused)


def _report_reads(
    found: Findings, size: int, reads: dict[str, list[list[float]]], rebuilds: Sequence[float]
) -> None:
    table = Table(
        f"A page of 100, {RATE} reads a second on {READERS} connections, one worker, while an "
        f"import changes {size:,} of {size:,} entries",
        ("reading", "reads", "p50 ms", "p99 ms", "longest ms"),
    )
    name = f"imports.readers.{size}"
    p99: dict[str, list[float]] = {}
    for kind, rounds in reads.items():
        p99[kind] = [percentile(times, 99) for times in rounds]
        figures = {
            "p50": spread(percentile(times, 50) for times in rounds),
            "p99": spread(p99[kind]),
            "longest": spread(map(max, rounds)),
        }
        found.data |= {f"{name}.{kind}.{part}": value for part, value in figures.items()}
        table.rows.append((kind, f"{sum(map(len, rounds)):,}", *map(str, figures.values())))
    ratio = ratios(p99["importing"], p99["idle"])
    found.data |= {f"{name}.ratio": ratio, f"{name}.rebuild": spread(rebuilds)}
    table.rows.append(("importing over idle", "", "", str(ratio), ""))
    found.tables.append(table)
    found.note(
        f"{size:,} entries: the worker took {spread(rebuilds)} ms to read what the import had "
        "changed, and no reader got an answer before."
    )


def _report_writes(
    found: Findings,
    size: int,
    writes: dict[str, list[list[float]]],
    waited: dict[str, list[float]],
    refused: dict[str, int],
) -> None:
    table = Table(
        f"A POST of one client after the other, while an import changes {size:,} of {size:,} "
        "entries",
        ("writing", "p50 ms", "longest ms", "'seconds' of the import, ms", "refused"),
    )
    name = f"imports.writers.{size}"
    for kind, rounds in writes.items():
        figures = {
            "p50": spread(percentile(times, 50) for times in rounds),
            "longest": spread(map(max, rounds)),
        }
        if kind in waited:
            figures["seconds"] = spread(waited[kind])
        found.data |= {f"{name}.{kind}.{part}": value for part, value in figures.items()}
        cells = [str(figures[part]) if part in figures else "" for part in _WRITES]
        table.rows.append((kind, *cells, f"{refused[kind]:,}"))
    found.tables.append(table)
    longest = map(max, writes["importing"])
    over = [wait - own for wait, own in zip(longest, waited["importing"], strict=True)]
    found.data[f"{name}.over"] = spread(over)


_WRITES = ("p50", "longest", "seconds")


@contextmanager
def _reading(server: Server) -> Iterator[list[float]]:
    """Read by the clock during the block; then the list has milliseconds since each was due."""
    over = threading.Event()
    times: list[float] = []
    start = time.perf_counter()

    def read(lane: int) -> None:
        with Connection(server.port) as connection:
            due = start + lane / RATE
            while not over.wait(max(0.0, due - time.perf_counter())):
                if connection.get(READ).status != 200:
                    raise LoadFailed("a read was refused")
                times.append((time.perf_counter() - due) * 1000)
                due += READERS / RATE

    with ThreadPoolExecutor(READERS) as pool:
        lanes = [pool.submit(read, lane) for lane in range(READERS)]
        try:
            yield times
        finally:
            over.set()
        for lane in lanes:
            lane.result()


def _get(server: Server) -> None:
    with Connection(server.port) as connection:
        if connection.get(READ).status != 200:
            raise LoadFailed("a read was refused")


def _rebuild_seconds(server: Server) -> float:
    text = fetch(server.port, "/metrics").body.decode()
    found = re.search(r"^roster_image_rebuild_seconds\S* (\S+)$", text, re.MULTILINE)
    if found is None:
        raise LoadFailed("/metrics has no roster_image_rebuild_seconds")
    return float(found[1])
