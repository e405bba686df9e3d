"""A read in one process, counted and not: ``python -m bench.counting INSTANCE`` prints JSON."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from werkzeug.test import create_environ

from app import create_app
from app.api.application import Application
from app.settings import Settings

#: How often both are measured, one after the other, and how many reads each time.
TURNS = 20
READS = 3_000


def main() -> None:
    """Answer the list over and over, every other time by services without metrics."""
    app = create_app(Settings(instance_path=Path(sys.argv[1])))
    counting = app.extensions["roster"]
    counting.store.open()
    both = {"with": counting, "without": replace(counting, metrics=None)}
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the access lines
    found: dict[str, list[float]] = {name: [] for name in both}
    _read(app)
    for turn in range(TURNS):
        for name in sorted(both, reverse=turn % 2 == 1):
            app.extensions["roster"] = both[name]
            found[name].append(_read(app))
    os.write(out, json.dumps({name: median(times) for name, times in found.items()}).encode())


def _read(app: Application) -> float:
    """Return the microseconds of CPU that one read takes this thread."""
    environ = create_environ("/v1/models")
    before = time.thread_time()
    for _ in range(READS):
        app(dict(environ), _start_response)
    return (time.thread_time() - before) / READS * 1e6


def _start_response(*_: object) -> object:
    return None


if __name__ == "__main__":
    main()
