"""How long a request on a new connection waits while a HUP replaces all workers."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.catalogue import Catalogue, Catalogues, model_id
from bench.client import fetch
from bench.figures import percentile, spread
from bench.findings import Findings, Table
from bench.lanes import connections_to_each
from bench.plan import Plan
from bench.processes import PATIENCE, Server
from bench.servers import roster

NAME = "reload"

SIZES = (1, 300, 20_000)
RELOADS = 20
CLIENTS = 4
#: Between two requests of a client, in seconds.
PAUSE = 0.005


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Reload again and again, and ask for one entry all the while."""
    found = Findings(NAME)
    reloads = plan.times(RELOADS)
    table = Table(
        f"One entry, read on new connections by {CLIENTS} clients during {reloads} reloads of "
        "two workers",
        ("entries", "requests", "not 200", "p50 ms", "p99.9 ms", "longest ms"),
    )
    for size in SIZES:
        waits, failed = _reload(catalogues.of(size), reloads)
        longest = max(waits)
        found.data[f"reload.{size}.longest"] = spread([longest])
        found.data[f"reload.{size}.failed"] = spread([failed])
        shown = (spread([percentile(waits, 50)]), spread([percentile(waits, 99.9)]))
        row = (f"{size:,}", f"{len(waits):,}", str(failed), *map(str, shown), f"{longest:.0f}")
        table.rows.append(row)
    found.tables.append(table)
    return found


def _reload(catalogue: Catalogue, reloads: int) -> tuple[list[float], int]:
    """Return how long each request took, in milliseconds, and how many failed."""
    over = threading.Event()
    path = f"/v1/models/{model_id(0)}"
    with roster(catalogue.instance, workers=2, log=True) as server:
        with connections_to_each(server):
            pass  # both serve
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(_read, server, path, over) for _ in range(CLIENTS)]
            try:
                for _ in range(reloads):
                    _replace(server)
            finally:
                over.set()
    outcomes = [outcome for client in clients for outcome in client.result()]
    return [wait for wait, _ in outcomes], sum(not answered for _, answered in outcomes)


def _replace(server: Server) -> None:
    """Send HUP, and return when two other workers serve."""
    before = set(server.workers())
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while before & set(server.workers()) or len(server.workers()) != len(before):
        if time.monotonic() > deadline:
            raise TimeoutError("a reload does not replace the workers")
        time.sleep(0.05)
    with connections_to_each(server):
        pass


def _read(server: Server, path: str, over: threading.Event) -> list[tuple[float, bool]]:
    """Return how long each request took, in milliseconds, and whether it was answered."""
    outcomes = []
    while not over.wait(PAUSE):
        started = time.perf_counter()
        try:
            answered = fetch(server.port, path).status == 200
        except OSError:
            answered = False
        outcomes.append(((time.perf_counter() - started) * 1000, answered))
    return outcomes
