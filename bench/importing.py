"""An import in one process, and the least that it must do: ``python -m bench.importing``.

``INSTANCE FILE EMPTY`` are the folder of a new database, a file of models.dev, and a folder for
what the yardstick writes. Prints JSON: seconds of CPU of each step, and of the yardstick.
"""

import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from app import create_app
from app.administration.catalogues import Applying, ImportOptions
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.store import Store


class _Laps:
    """A store that notes the CPU time when a transaction begins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.began = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def transaction(self, **given: Any) -> Any:
        self.began = time.process_time()
        return self._store.transaction(**given)


def main() -> None:
    """Import the file, then do what the yardstick does."""
    instance, path, empty = map(Path, sys.argv[1:])
    services = create_app(Settings(instance_path=instance)).extensions["roster"]
    services.store.open(create=True)
    services.catalog.current()
    store = _Laps(services.store)
    body = path.read_bytes()
    gc.collect()
    gc.disable()  # as in the child process of a worker
    checked: list[float] = []

    def progress(items: Sequence[Any]) -> Iterator[Any]:
        checked.append(time.process_time())
        yield from items
        checked.append(time.process_time())

    started = time.process_time()
    replace(services.catalogues, store=store).import_catalogue(
        body, ImportOptions(prefix=True), Applying(), actor=Actor("bench"), progress=progress
    )
    ended = time.process_time()
    services.store.close()
    found = {
        "parse": checked[0] - started,
        "check": checked[1] - checked[0],
        "plan": store.began - checked[1],
        "write": ended - store.began,
        "sum": ended - started,
        "yardstick": _yardstick(instance, body, empty),
    }
    print(f"\n{json.dumps(found)}", flush=True)


def _yardstick(instance: Path, body: bytes, empty: Path) -> float:
    """Return the CPU of the parse of the JSON and of the INSERT of the same rows and lines."""
    other = Store(Settings(instance_path=empty), time.time)
    other.open(create=True)
    other.close()
    tables = {}
    with closing(sqlite.connect(str(instance / "roster.db"))) as connection:
        for table in ("models", "changes"):
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            marks = ", ".join("?" * len(rows[0]))
            tables[f"INSERT INTO {table} VALUES ({marks})"] = rows  # noqa: S608
    with closing(sqlite.connect(str(empty / "roster.db"), isolation_level=None)) as connection:
        connection.execute("DELETE FROM changes")  # the first key
        started = time.process_time()
        json.loads(body)
        connection.execute("BEGIN IMMEDIATE")
        for statement, rows in tables.items():
            connection.executemany(statement, rows)
        connection.execute("COMMIT")
        return time.process_time() - started


if __name__ == "__main__":
    main()
