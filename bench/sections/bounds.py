"""Bounds that hold for a thousand readers: memory, audiences, fairness.

Memory is that of the only worker. A write is a PATCH of a name by an administrator.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.catalogue import Catalogue, Catalogues, model_id, private_id
from bench.client import Answer, Connection
from bench.fairness import measure_fairness
from bench.figures import number, percentile, spread
from bench.findings import Findings, Table
from bench.load import LoadFailed
from bench.memory import MIB, follow, report
from bench.plan import ROOT, Plan
from bench.servers import roster

NAME = "bounds"

#: A measurement ends early when the worker takes more MiB, or after so many seconds.
MOST = 1024
PATIENCE = 600
#: The same for windows of 100,000 entries: a list for each of a thousand would be 800 MiB.
MOST_OF_WINDOWS = 4096
PATIENCE_OF_WINDOWS = 180

#: Entries that are written over and over, of the public ones and of the private ones.
WRITTEN = 100
READS_A_WRITE = 10
GZIP = {"Accept-Encoding": "gzip"}

#: Connections that read windows at the same time.
LANES = 8
#: The default of ROSTER_CACHE_BYTES, in MiB.
CACHE = 256


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Measure one after the other."""
    found = Findings(NAME)
    _cursors(found, plan, catalogues)
    organizations = plan.times(2_000)
    owned = catalogues.of(plan.times(1_000) + organizations, organizations=organizations)
    _audiences(found, owned)
    _first_reads(found, plan, owned)
    for size in (2_500,) if plan.quick else (2_500, plan.largest):
        measure_fairness(found, plan, catalogues.of(size))
    _readers_and_writes(found, plan, catalogues)
    _windows(found, plan, catalogues)
    return found


def _cursors(found: Findings, plan: Plan, catalogues: Catalogues) -> None:
    """Write, and read a page at a cursor that is new, again and again."""
    catalogue = catalogues.of(plan.times(20_000))
    rounds = plan.times(10_000)
    limit = 16
    with (
        roster(catalogue.instance, ROSTER_CACHE_BYTES=str(limit * MIB)) as server,
        Connection(server.port) as connection,
    ):

        def step(done: int) -> None:
            _write(connection, catalogue, model_id(0), done)
            _read(connection, f"/v1/models?limit=1&after=zz{done}")

        course = follow(server, rounds, step, most=MOST, seconds=PATIENCE)
    title = (
        f"{rounds:,} writes, after each a page at a new cursor; {catalogue.size:,} entries, "
        f"a cache of {limit} MiB"
    )
    report(found, "bounds.cursors", title, course, limit=limit, what="writes")


def _audiences(found: Findings, catalogue: Catalogue) -> None:
    """Compute all audiences in a fresh process, and again after a write."""
    organizations = len(catalogue.organization_keys)
    command = [sys.executable, "-m", "bench.audiences", catalogue.instance]
    done = subprocess.run(
        [*command, catalogue.admin_key, str(organizations)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    [line] = [line for line in done.stdout.splitlines() if "after_write" in line]
    seconds = json.loads(line)  # the access lines are there, too
    first, after_write = spread([seconds["first"]]), spread(seconds["after_write"])
    found.data |= {"bounds.audiences.first": first, "bounds.audiences.after_write": after_write}
    table = Table(
        f"The audiences of {organizations:,} organizations in one process, "
        f"{catalogue.size:,} entries",
        ("computed", "CPU s"),
    )
    table.rows += [("at first", str(first)), ("after a write to a public entry", str(after_write))]
    found.tables.append(table)


def _first_reads(found: Findings, plan: Plan, catalogue: Catalogue) -> None:
    """Write to a public entry, and let some organizations read their list twice."""
    organizations = len(catalogue.organization_keys)
    asking = plan.times(200)
    times: dict[str, list[float]] = {"first": [], "again": []}
    with roster(catalogue.instance) as server, Connection(server.port) as connection:
        for reader in range(organizations):  # the worker has known all of them before the write
            _read(connection, "/v1/models", catalogue.read_as(reader))
        _write(connection, catalogue, model_id(0), 0)
        for reader in range(0, organizations, organizations // asking):
            for taken in times.values():
                answer = _read(connection, "/v1/models", catalogue.read_as(reader))
                taken.append(answer.seconds * 1000)
    table = Table(
        f"The list of {asking:,} of these organizations, after a write to a public entry",
        ("request", "p50 ms", "p99 ms"),
    )
    for name, request in (("first", "the first of its key"), ("again", "the same again")):
        figures = {f"p{part}": spread([percentile(times[name], part)]) for part in (50, 99)}
        found.data |= {f"bounds.first_reads.{name}.{part}": one for part, one in figures.items()}
        table.rows.append((request, *map(str, figures.values())))
    found.tables.append(table)


def _readers_and_writes(found: Findings, plan: Plan, catalogues: Catalogues) -> None:
    """Write to public and private entries; read lists, pages and entries as all in turn."""
    public = organizations = plan.times(1_000)
    catalogue = catalogues.of(public + organizations, organizations=organizations)
    writes = plan.times(5_000)
    limit = 64
    with (
        roster(catalogue.instance, ROSTER_CACHE_BYTES=str(limit * MIB)) as server,
        Connection(server.port) as connection,
    ):

        def step(done: int) -> None:
            entry = private_id if done % 2 else model_id
            _write(connection, catalogue, entry(done // 2 % WRITTEN), done)
            for turn in range(done * READS_A_WRITE, (done + 1) * READS_A_WRITE):
                reader = turn * 37 % organizations
                paths = (
                    "/v1/models",
                    f"/v1/models?limit=50&after={model_id(turn * 7 % public)}",
                    f"/v1/models/{private_id(reader)}",
                )
                gzip = GZIP if turn % 4 == 0 else {}
                _read(connection, paths[turn % 3], catalogue.read_as(reader) | gzip)

        course = follow(server, writes, step, most=MOST, seconds=PATIENCE)
    title = (
        f"{writes:,} writes, after each {READS_A_WRITE} reads; {organizations:,} "
        f"organizations, {catalogue.size:,} entries, a cache of {limit} MiB"
    )
    report(found, "bounds.readers", title, course, limit=limit, what="writes")


def _windows(found: Findings, plan: Plan, catalogues: Catalogues) -> None:
    """Read windows that are all different, on several connections at the same time."""
    organizations = plan.times(1_000)
    catalogue = catalogues.of(plan.largest, organizations=organizations)
    public = catalogue.size - organizations
    windows = plan.times(10_000)
    with ExitStack() as stack:
        server = stack.enter_context(roster(catalogue.instance))
        lanes = [stack.enter_context(Connection(server.port)) for _ in range(LANES)]
        for lane in lanes:
            _read(lane, "/healthz")  # a thread of the worker waits for the first request of each
        pool = stack.enter_context(ThreadPoolExecutor(LANES))

        def ask(window: int) -> None:
            limit, after = 1 + window * 7 % 1_000, model_id(window * 9 % public)
            path = f"/v1/models?limit={limit}&after={after}"
            _read(lanes[window % LANES], path, catalogue.read_as(window % organizations))

        def step(done: int) -> None:
            list(pool.map(ask, range(done, done + LANES)))

        started = time.monotonic()
        course = follow(
            server,
            windows,
            step,
            size=LANES,
            most=MOST_OF_WINDOWS,
            seconds=PATIENCE_OF_WINDOWS,
        )
        seconds = time.monotonic() - started
    done = course.end.done
    title = (
        f"{windows:,} different windows for {organizations:,} organizations, {LANES} at the same "
        f"time; {catalogue.size:,} entries"
    )
    report(found, "bounds.windows", title, course, limit=CACHE, what="windows")
    added = course.end.rss - course.start.rss
    cached = course.end.cache - course.start.cache
    found.note(
        f"{done:,} windows took {number(seconds)} s and {number(added)} MiB. The image and the "
        f"first list had taken {number(course.start.rss)} MiB before. The cache counts "
        f"{number(cached)} MiB of what was added, and {number(added - cached)} MiB are not in it."
    )


def _write(connection: Connection, catalogue: Catalogue, entry: str, turn: int) -> None:
    path = f"/admin/models/{entry}"
    answer = connection.send("PATCH", path, catalogue.admin, {"name": f"write {turn:06}"})
    if answer.status != 200:
        raise LoadFailed(f"a PATCH was answered with {answer.status}")


def _read(connection: Connection, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    answer = connection.get(path, headers)
    if answer.status != 200:
        raise LoadFailed(f"{path} was answered with {answer.status}")
    return answer
