"""One durable POST through gunicorn against a raw durable transaction of the same rows.

On PostgreSQL the raw transaction has as many round trips as that of the POST.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from bench.catalogue import Catalogue, Catalogues, new_entry
from bench.client import Connection
from bench.figures import percentile, spread
from bench.findings import Findings, Table
from bench.plan import Plan
from bench.processes import Server
from bench.servers import roster
from tests.postgresql import Cluster, which

NAME = "writes"

SIZE = 300
CLIENTS = 8

_numbers = itertools.count(1_000_000)


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Write by one client and by eight, in turn with the raw database."""
    found = Findings(NAME)
    count = plan.times(300)
    catalogue = catalogues.of(SIZE)
    raw = catalogues.of(SIZE).instance / "roster.db"
    ways: dict[str, Callable[[], list[float]]] = {}
    with ExitStack() as stack:
        one = stack.enter_context(roster(catalogue.instance))
        two = stack.enter_context(roster(catalogues.of(SIZE).instance, workers=2))
        insert = stack.enter_context(_raw(raw))
        ways["raw"] = lambda: [insert() for _ in range(count)]
        ways["one"] = lambda: _post(one, catalogue, count)
        ways["eight, 1 worker"] = lambda: _eight(one, catalogue, count)
        ways["eight, 2 workers"] = lambda: _eight(two, catalogue, count)
        if which("initdb") is None or find_spec("psycopg") is None:
            found.note("Without PostgreSQL's initdb and psycopg its rows were left out.")
        else:
            served, insert_there = stack.enter_context(_postgresql(catalogues.of(SIZE)))
            ways["postgresql raw"] = lambda: [insert_there() for _ in range(count)]
            ways["postgresql"] = lambda: _post(served, catalogue, count)
        _rounds(found, plan, ways)
    return found


def _rounds(found: Findings, plan: Plan, ways: dict[str, Callable[[], list[float]]]) -> None:
    """Write in each way in turn; report the times and, over the raw ones, their medians."""
    results: dict[str, list[list[float]]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for warm in (True, *[False] * plan.rounds):  # the first ones pay for imports and pages
        for name, write in ways.items():
            started = time.perf_counter()
            times = write()
            if not warm:
                rates[name].append(len(times) / (time.perf_counter() - started))
                results[name].append(times)
    table = Table(
        f"Durable writes into {SIZE} entries",
        ("who", "writes/s", "p50 ms", "p99 ms", "p99 over p50", "p50 over raw"),
    )
    names = {
        "raw": "raw SQLite transaction of the same rows",
        "one": "POST, one client",
        "eight, 1 worker": f"POST, {CLIENTS} clients, 1 worker",
        "eight, 2 workers": f"POST, {CLIENTS} clients, 2 workers",
        "postgresql raw": "raw PostgreSQL transaction of the same round trips",
        "postgresql": "POST, one client, PostgreSQL",
    }
    medians = {n: [percentile(times, 50) for times in runs] for n, runs in results.items()}
    for name, rounds in results.items():
        p50, p99 = medians[name], [percentile(times, 99) for times in rounds]
        raw = medians["postgresql raw" if name.startswith("postgresql") else "raw"]
        figures = {
            "per_second": spread(rates[name]),
            "p50": spread(p50),
            "p99": spread(p99),
            "tail": spread(b / a for a, b in zip(p50, p99, strict=True)),
            "over_raw": spread(a / b for a, b in zip(p50, raw, strict=True)),
        }
        found.data |= {f"writes.{name}.{part}": value for part, value in figures.items()}
        table.rows.append((names[name], *map(str, figures.values())))
    found.tables.append(table)


@contextmanager
def _postgresql(catalogue: Catalogue) -> Iterator[tuple[Server, Callable[[], float]]]:
    """Serve a copy of `catalogue` from a PostgreSQL server; give `_raw` of it, too."""
    import psycopg  # noqa: PLC0415 - an extra

    cluster = Cluster()
    try:
        url, raw_url = (cluster.url(cluster.create()) for _ in range(2))
        for target in (url, raw_url):
            with closing(Store(Settings(instance_path=catalogue.instance), time.time)) as store:
                store.copy_to(target)
        with (
            roster(catalogue.instance, ROSTER_DATABASE_URL=url) as server,
            psycopg.connect(raw_url) as connection,
        ):
            rows = _rows(connection)
            connection.commit()
            [[kid]] = connection.execute("SELECT min(kid) FROM keys").fetchall()
            connection.commit()

            def insert() -> float:
                model_id = new_entry(next(_numbers))["id"]
                started = time.perf_counter()
                [[revision]] = connection.execute(
                    "UPDATE catalogue SET revision = revision + 1 RETURNING revision"
                ).fetchall()
                connection.execute("SELECT * FROM keys WHERE kid = %s", [kid]).fetchall()
                connection.execute("SELECT * FROM models WHERE id = %s", [model_id]).fetchall()
                for table, row in _changed(rows, model_id, revision):
                    marks = ", ".join(["%s"] * len(row))
                    connection.execute(
                        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608
                        [*row.values()],
                    )
                connection.commit()
                return (time.perf_counter() - started) * 1000

            yield server, insert
    finally:
        cluster.remove()


def _rows(connection: Any) -> dict[str, dict[str, Any]]:
    """Return one row of each table that a POST inserts into."""
    rows = {}
    for table in ("models", "changes"):
        cursor = connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608 - constants
        names = [column[0] for column in cursor.description]
        rows[table] = dict(zip(names, cursor.fetchall()[0], strict=True))
    return rows


def _changed(
    rows: dict[str, dict[str, Any]], model_id: str, revision: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "models", rows["models"] | {"id": model_id, "revision": revision}
    yield "changes", rows["changes"] | {"model_id": model_id, "revision": revision}


@contextmanager
def _raw(path: Path) -> Iterator[Any]:
    """Give a function that inserts what a POST does, durably; it returns milliseconds."""
    with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        rows = _rows(connection)

        def insert() -> float:
            model_id = new_entry(next(_numbers))["id"]
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            [[revision]] = connection.execute(
                "UPDATE catalogue SET revision = revision + 1 RETURNING revision"
            ).fetchall()
            for table, row in _changed(rows, model_id, revision):
                marks = ", ".join("?" * len(row))
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608
                    tuple(row.values()),
                )
            connection.execute("COMMIT")
            return (time.perf_counter() - started) * 1000

        yield insert


def _post(server: Server, catalogue: Catalogue, count: int) -> list[float]:
    """Create `count` entries by one client; return milliseconds of each."""
    times = []
    with Connection(server.port) as connection:
        for _ in range(count):
            fields = new_entry(next(_numbers))
            answer = connection.send("POST", "/admin/models", catalogue.admin, fields)
            if answer.status != 201:
                raise ConnectionError(f"a POST was answered with {answer.status}")
            times.append(answer.seconds * 1000)
    return times


def _eight(server: Server, catalogue: Catalogue, count: int) -> list[float]:
    with ThreadPoolExecutor(CLIENTS) as clients:
        each = [
            clients.submit(_post, server, catalogue, max(1, count // 4)) for _ in range(CLIENTS)
        ]
        return [milliseconds for client in each for milliseconds in client.result()]
