"""Whether any read is older than the last answered write: direct, and through nginx."""

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.catalogue import Catalogue, Catalogues, model_id
from bench.client import Connection
from bench.figures import spread
from bench.findings import Findings, Table
from bench.lanes import connections_to_each, pids
from bench.load import Target, wrk
from bench.plan import Plan
from bench.processes import Server
from bench.servers import SITE, nginx_front, roster

NAME = "freshness"

SIZE = 300
READS = 10_000
ROUTE = "/v1/models"
#: Reads at once after each write: as many as two workers have threads.
LANES = 8
#: How often nginx may keep connections to one worker only, before a note says so.
TRIES = 20


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Write, and read eight times at once, again and again."""
    found = Findings(NAME)
    reads = plan.times(READS)
    table = Table(
        f"{SIZE} entries, two workers of four threads, {LANES} reads at once after each write",
        ("way", "reads", "stale", "reads by each worker"),
    )
    direct, fronted = catalogues.of(SIZE), catalogues.of(SIZE)
    with (
        roster(direct.instance, workers=2, log=True) as server,
        connections_to_each(server, count=LANES // 2) as kept,
    ):
        readers = [connection for connections in kept.values() for connection in connections]
        before = {"direct": pids(server, ROUTE)}
        ways = [("direct", _read(server, readers, direct, reads), server)]
    if shutil.which("nginx") is None or not SITE.exists():
        found.note("Without nginx and deploy/nginx/roster.conf there is no read through nginx.")
    else:
        with (
            roster(fronted.instance, workers=2, unix=True, log=True) as behind,
            nginx_front(plan.folder, behind, cached=False) as front,
            ExitStack() as stack,
        ):
            readers = [stack.enter_context(Connection(front.port)) for _ in range(LANES)]
            _mix(front, behind, readers)
            before["nginx"] = pids(behind, ROUTE)
            ways.append(("nginx", _read(front, readers, fronted, reads), behind))
    for way, (count, stale), logged in ways:
        served = pids(logged, ROUTE) - before[way]
        if len(served) < 2:
            found.note(f"All reads that were {way} went to one worker: measure again.")
        by_worker = " + ".join(f"{number:,}" for number in served.values())
        found.data[f"freshness.{way}.reads"] = spread([count])
        found.data[f"freshness.{way}.stale"] = spread([stale])
        table.rows.append((way, f"{count:,}", str(stale), by_worker))
    found.tables.append(table)
    return found


def _mix(front: Server, behind: Server, readers: Sequence[Connection]) -> None:
    """Load nginx until those of its kept connections that it uses reach both workers."""
    for _ in range(TRIES):
        wrk(Target(front), 1, 4 * LANES)
        before = pids(behind, ROUTE)
        with ThreadPoolExecutor(LANES) as pool:
            for _ in range(3):
                list(pool.map(lambda reader: reader.get(ROUTE), readers))
        time.sleep(0.1)  # for the last access lines
        if len(pids(behind, ROUTE) - before) > 1:
            return


def _read(
    server: Server, readers: Sequence[Connection], catalogue: Catalogue, reads: int
) -> tuple[int, int]:
    """Return how often was read, and how often something older than the last write."""
    stale = count = 0
    with ExitStack() as stack:
        writer = stack.enter_context(Connection(server.port))
        pool = stack.enter_context(ThreadPoolExecutor(LANES))
        while count < reads:
            wrote = f"write {count}"
            path = f"/admin/models/{model_id(count % SIZE)}"
            answer = writer.send("PATCH", path, catalogue.admin, {"name": wrote})
            if answer.status != 200:
                raise ConnectionError(f"a PATCH was answered with {answer.status}")
            replies = pool.map(lambda reader: reader.get(ROUTE).body, readers)
            fresh = f'"name":"{wrote}"'.encode()
            stale += sum(fresh not in reply for reply in replies)
            count += LANES
    return count, stale
