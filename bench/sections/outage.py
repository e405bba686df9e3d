"""What readers notice while PostgreSQL accepts whatever is sent and answers nothing."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from importlib.util import find_spec

from app.settings import Settings
from app.store.store import Store
from bench.catalogue import Catalogues
from bench.client import PATIENCE, Connection
from bench.figures import percentile, ratios, spread
from bench.findings import Findings, Table
from bench.plan import Plan
from bench.processes import Server
from bench.servers import roster
from tests.postgresql import Cluster, which

NAME = "outage"

SIZE = 300
#: Twice as many readers as the worker has threads.
LANES = 8
ROUTE = "/v1/models"


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Read in turn from a healthy server and from a silent one, in seconds of their own."""
    found = Findings(NAME)
    if which("initdb") is None or find_spec("psycopg") is None:
        found.note("Without PostgreSQL's initdb and psycopg this was left out.")
        return found
    cluster = Cluster(fsync="off")
    try:
        rounds = _rounds(plan, catalogues, cluster)
    finally:
        cluster.remove()
    table = Table(
        f"The list of {SIZE} entries of a PostgreSQL database, {LANES} readers, one worker",
        ("server", "reads/s", "p50 ms", "p99 ms", "slowest ms"),
    )
    rates = {}
    for name, runs in rounds.items():
        rates[name] = [len(times) / plan.seconds for times in runs]
        figures = {"per_second": spread(rates[name])}
        for part, percent in (("p50", 50), ("p99", 99), ("slowest", 100)):
            figures[part] = spread(percentile(times, percent) for times in runs)
        found.data |= {f"outage.{name}.{part}": value for part, value in figures.items()}
        table.rows.append((name, *map(str, figures.values())))
    found.data["outage.ratio"] = ratios(rates["silent"], rates["healthy"])
    table.rows.append(("silent over healthy", str(found.data["outage.ratio"]), "", "", ""))
    found.tables.append(table)
    found.note("Reads of the silent server begin when the first read of it has timed out.")
    return found


def _rounds(plan: Plan, catalogues: Catalogues, cluster: Cluster) -> dict[str, list[list[float]]]:
    catalogue = catalogues.of(SIZE)
    name = cluster.create()
    url = cluster.url(name)
    with closing(Store(Settings(instance_path=catalogue.instance), time.time)) as store:
        store.copy_to(url)
    rounds: dict[str, list[list[float]]] = {"healthy": [], "silent": []}
    with roster(catalogue.instance, ROSTER_DATABASE_URL=url) as server:
        for _ in range(plan.rounds):
            for state, fault in (("healthy", nullcontext()), ("silent", _locked(cluster, name))):
                with fault:
                    _wait(server, stale=state == "silent")
                    rounds[state].append(_read(server, plan.seconds))
    return rounds


@contextmanager
def _locked(cluster: Cluster, name: str) -> Iterator[None]:
    """Hold a lock that every read of the revision waits for, and no connection."""
    with cluster.connect(name) as locker, locker.transaction():
        locker.execute("LOCK TABLE catalogue IN ACCESS EXCLUSIVE MODE")
        yield


def _wait(server: Server, *, stale: bool) -> None:
    """Read until the answer says that it is stale, or that it is fresh."""
    deadline = time.monotonic() + PATIENCE
    with Connection(server.port) as connection:
        while ("x-roster-stale" in connection.get(ROUTE).headers) != stale:
            if time.monotonic() > deadline:
                raise TimeoutError("the worker does not notice how the database is")


def _read(server: Server, seconds: float) -> list[float]:
    """Return the milliseconds of each read by all readers together."""
    end = time.perf_counter() + seconds

    def lane(_: int) -> list[float]:
        times = []
        with Connection(server.port) as connection:
            while time.perf_counter() < end:
                answer = connection.get(ROUTE)
                if answer.status != 200:
                    raise ConnectionError(f"a read was answered with {answer.status}")
                times.append(answer.seconds * 1000)
        return times

    with ThreadPoolExecutor(LANES) as lanes:
        return [time for times in lanes.map(lane, range(LANES)) for time in times]
