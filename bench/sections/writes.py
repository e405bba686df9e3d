"""One durable POST through gunicorn against a raw durable transaction of the same rows."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from app.store.sqlite.connection import sqlite
from bench.catalogue import Catalogue, Catalogues, new_entry
from bench.client import Connection
from bench.figures import percentile, spread
from bench.findings import Findings, Table
from bench.plan import Plan
from bench.processes import Server
from bench.servers import roster

NAME = "writes"

SIZE = 300
CLIENTS = 8

_numbers = itertools.count(1_000_000)


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Write by one client and by eight, in turn with the raw database."""
    found = Findings(NAME)
    count = plan.times(300)
    results: dict[str, list[list[float]]] = {}
    rates: dict[str, list[float]] = {}
    catalogue = catalogues.of(SIZE)
    raw = catalogues.of(SIZE).instance / "roster.db"
    with (
        roster(catalogue.instance) as one,
        roster(catalogues.of(SIZE).instance, workers=2) as two,
        _raw(raw) as insert,
    ):
        _post(one, catalogue, 20)  # the first ones pay for imports and pages
        for _ in range(20):
            insert()
        for _ in range(plan.rounds):
            for name, write in (
                ("raw", lambda: [insert() for _ in range(count)]),
                ("one", lambda: _post(one, catalogue, count)),
                ("eight, 1 worker", lambda: _eight(one, catalogue, count)),
                ("eight, 2 workers", lambda: _eight(two, catalogue, count)),
            ):
                started = time.perf_counter()
                times = write()
                rates.setdefault(name, []).append(len(times) / (time.perf_counter() - started))
                results.setdefault(name, []).append(times)
    _report(found, results, rates)
    return found


def _report(
    found: Findings, results: dict[str, list[list[float]]], rates: dict[str, list[float]]
) -> None:
    table = Table(
        f"Durable writes into {SIZE} entries",
        ("who", "writes/s", "p50 ms", "p99 ms", "p99 over p50", "p50 over raw"),
    )
    raw = [percentile(times, 50) for times in results["raw"]]
    names = {
        "raw": "raw SQLite transaction of the same rows",
        "one": "POST, one client",
        "eight, 1 worker": f"POST, {CLIENTS} clients, 1 worker",
        "eight, 2 workers": f"POST, {CLIENTS} clients, 2 workers",
    }
    for name, rounds in results.items():
        p50 = [percentile(times, 50) for times in rounds]
        p99 = [percentile(times, 99) for times in rounds]
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
def _raw(path: Path) -> Iterator[Any]:
    """Give a function that inserts what a POST does, durably; it returns milliseconds."""
    with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        model, change = (
            connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608 - constants
            for table in ("models", "changes")
        )
        model_names = [column[0] for column in model.description]
        change_names = [column[0] for column in change.description]
        a_model = dict(zip(model_names, model.fetchall()[0], strict=True))
        a_change = dict(zip(change_names, change.fetchall()[0], strict=True))

        def insert() -> float:
            model_id = new_entry(next(_numbers))["id"]
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            [[revision]] = connection.execute(
                "UPDATE catalogue SET revision = revision + 1 RETURNING revision"
            ).fetchall()
            for table, row in (
                ("models", a_model | {"id": model_id, "revision": revision}),
                ("changes", a_change | {"model_id": model_id, "revision": revision}),
            ):
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
