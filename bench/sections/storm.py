"""The list of 2,500 entries while others write fifty times a second."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench.catalogue import Catalogue, Catalogues, model_id
from bench.client import Connection
from bench.figures import ratios, spread
from bench.findings import Findings, Table
from bench.load import Run, Target, measure
from bench.plan import Plan
from bench.processes import Server
from bench.servers import roster

NAME = "storm"

SIZE = 2_500
#: Writes a second, by so many clients, for one would wait for its own answers.
RATE = 50
WRITERS = 5


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Read in turn with nothing else going on, and in the storm."""
    found = Findings(NAME)
    catalogue = catalogues.of(SIZE)
    idle: list[Run] = []
    stormy: list[Run] = []
    reached: list[float] = []
    with roster(catalogue.instance) as server:
        target = Target(server)
        for _ in range(plan.rounds):
            idle.append(measure(target, plan))
            with _storm(server, catalogue) as rate:
                stormy.append(measure(target, plan))
            reached += rate
    table = Table(f"The list of {SIZE:,} entries", ("reading", "requests/s", "p50 ms", "p99 ms"))
    for name, runs in (("idle", idle), (f"under {RATE} writes a second", stormy)):
        parts = ("per_second", "p50", "p99")
        figures = {part: spread(getattr(one, part) for one in runs) for part in parts}
        key = name.split()[0]
        found.data |= {f"storm.{key}.{part}": value for part, value in figures.items()}
        table.rows.append((name, *map(str, figures.values())))
    ratio = ratios([run.p99 for run in stormy], [run.p99 for run in idle])
    found.data["storm.ratio"] = ratio
    found.data["storm.rate"] = spread(reached)
    table.rows.append(("p99, storm over idle", "", "", str(ratio)))
    found.tables.append(table)
    found.note(f"The storm reached {spread(reached)} writes a second.")
    return found


@contextmanager
def _storm(server: Server, catalogue: Catalogue) -> Iterator[list[float]]:
    """Write during the block; afterwards the list has the rate that was reached."""
    over = threading.Event()
    rate: list[float] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [
            pool.submit(_write, server, catalogue, number, over) for number in range(WRITERS)
        ]
        try:
            yield rate
        finally:
            over.set()
        written = sum(writer.result() for writer in writers)
    rate.append(written / (time.perf_counter() - started))


def _write(server: Server, catalogue: Catalogue, number: int, over: threading.Event) -> int:
    """Write by the clock, whatever the last write took; return how often."""
    count = 0
    started = time.perf_counter() + number / RATE
    with Connection(server.port) as connection:
        while not over.wait(max(0.0, started + count * WRITERS / RATE - time.perf_counter())):
            path = f"/admin/models/{model_id((count * WRITERS + number) % SIZE)}"
            body = {"name": f"write {time.time_ns()}"}
            answer = connection.send("PATCH", path, catalogue.admin, body)
            if answer.status != 200:
                raise ConnectionError(f"a PATCH was answered with {answer.status}")
            count += 1
    return count
