"""A long log: pages of it, the catalogue as it was, and pruning while others write."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from app.catalog.model import Model
from app.store.documents import write_model
from app.store.sqlite.connection import sqlite
from bench.catalogue import Catalogue, Catalogues, full_entry
from bench.client import Connection
from bench.figures import percentile, ratios, spread
from bench.findings import Findings, Table
from bench.load import LoadFailed
from bench.meanwhile import watched, writing
from bench.plan import ROOT, Plan
from bench.processes import Server, children
from bench.servers import roster

NAME = "history"

LINES = 1_000_000
ENTRIES = 5_000
#: How often each page is read in a round.
PAGES = 20
#: One change in so many is of an author whose lines are few.
RARE = 10_000

_BEGIN = 1_700_000_000
_LINE = """INSERT INTO changes (revision, at, actor, action, model_id, before, after, mark, batch)
VALUES (?, ?, ?, 'model.update', ?, ?, ?, '', ?)"""


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Make a log, read it at several places, write beside it, and prune it."""
    found = Findings(NAME)
    catalogue = catalogues.of(0)
    lines, entries = plan.times(LINES), plan.times(ENTRIES)
    _make_log(catalogue.instance / "roster.db", lines, entries)
    with roster(catalogue.instance) as server:
        _pages(found, plan, server, catalogue, lines)
        _as_of(found, plan, server, catalogue, lines)
    _writes(found, plan, catalogue, catalogues.of(0))
    _prune(found, catalogue, lines)
    return found


def _make_log(path: Path, lines: int, entries: int) -> None:
    """Write what so many changes leave: each sets the name of one entry, in turn."""
    models = [Model.compose(full_entry(number), now=_BEGIN) for number in range(entries)]
    templates = [write_model(model).replace(f'"{model.name}"', '"%d"') for model in models]
    with closing(sqlite.connect(str(path))) as connection, connection:
        [(last,)] = connection.execute("SELECT revision FROM catalogue")

        def rows() -> Iterator[tuple[object, ...]]:
            for number in range(lines):
                which, turn = number % entries, number // entries
                before = None if turn == 0 else _at(templates[which], turn - 1)
                actor = "cli:rare" if number % RARE == 0 else "cli:often"
                revision, at = last + 1 + number, _BEGIN + number
                after = _at(templates[which], turn)
                yield revision, at, actor, models[which].id, before, after, revision

        connection.executemany(_LINE, rows())
        connection.execute(
            "INSERT INTO models SELECT model_id, max(revision), after FROM changes "
            "WHERE model_id IS NOT NULL GROUP BY model_id"
        )
        connection.execute("UPDATE catalogue SET revision = ?", (last + lines,))


def _at(template: str, turn: int) -> str:
    return template.replace("%d", str(turn))


def _pages(found: Findings, plan: Plan, server: Server, catalogue: Catalogue, lines: int) -> None:
    """Read pages of 100 lines at several places of the log."""
    model_id = full_entry(1)["id"]
    paths = {
        "newest": "",
        "in the middle": f"&after={lines // 2}",
        "oldest": "&after=150",
        "of one entry": f"&model={model_id}",
        "of an author with few lines": "&actor=cli:rare",
        "of an author, in the middle": f"&actor=cli:often&after={lines // 2}",
        "until a time": f"&until={_BEGIN + lines // 3}",
        "of a time without changes": f"&since={_BEGIN - 2000}&until={_BEGIN - 1000}",
    }
    table = Table(f"A page of 100 of {lines:,} lines, by HTTP", ("page", "p50 ms", "over newest"))
    times: dict[str, list[float]] = {name: [] for name in paths}
    with Connection(server.port) as connection:
        for _ in range(plan.rounds + 1):  # the first one reads the disk
            for name, parameters in paths.items():
                path = f"/admin/changes?limit=100{parameters}"
                taken = [_get(connection, catalogue, path) for _ in range(PAGES)]
                times[name].append(percentile(taken, 50))
    for name, of_rounds in times.items():
        ratio = ratios(of_rounds[1:], times["newest"][1:])
        table.rows.append((name, str(spread(of_rounds[1:])), str(ratio)))
    places = ("in the middle", "oldest", "until a time")
    worst = [ratios(times[name][1:], times["newest"][1:]) for name in places]
    found.data["history.page"] = max(worst, key=lambda ratio: ratio.median)
    found.tables.append(table)


def _as_of(found: Findings, plan: Plan, server: Server, catalogue: Catalogue, lines: int) -> None:
    """Read a page of the catalogue as it was at several revisions."""
    table = Table(
        "A page of 100 of the entries as they were, by HTTP",
        ("revisions ago", "p50 ms", "peak MiB of the worker's child"),
    )
    [worker] = server.workers()
    with Connection(server.port) as connection:
        for ago in (10, 1_000, lines // 10, lines - 10):
            path = f"/admin/models?limit=100&as_of={lines - ago}"
            with watched(lambda: children(worker)) as cost:
                taken = [_get(connection, catalogue, path) for _ in range(plan.rounds)]
            found.data[f"history.as_of.{ago}"] = figure = spread(taken)
            table.rows.append((f"{ago:,}", str(figure), f"{cost.peak:.0f}"))
            if ago == lines - 10:
                found.data["history.as_of.all"] = figure
                found.data["history.as_of.peak"] = spread([cost.peak])
    found.tables.append(table)


def _writes(found: Findings, plan: Plan, long: Catalogue, empty: Catalogue) -> None:
    """Create entries beside a long log and beside a short one, in turn."""
    times: dict[str, list[float]] = {"long": [], "short": []}
    with roster(long.instance) as one, roster(empty.instance) as two:
        for _ in range(plan.rounds + 1):  # the first writes pay for imports and pages
            for name, server, catalogue in (("long", one, long), ("short", two, empty)):
                with writing(server, catalogue) as (taken, refused):
                    time.sleep(plan.seconds)
                if refused:
                    raise LoadFailed(f"a POST was answered with {refused[0]}")
                times[name].append(percentile(taken, 50))
    table = Table("A POST of one client", ("log", "p50 ms"))
    table.rows += [(name, str(spread(of_rounds[1:]))) for name, of_rounds in times.items()]
    found.data["history.write"] = ratio = ratios(times["long"][1:], times["short"][1:])
    table.rows.append(("long over short", str(ratio)))
    found.tables.append(table)


def _prune(found: Findings, catalogue: Catalogue, lines: int) -> None:
    """Remove nine of ten lines, while one client writes."""
    before = str(_BEGIN + lines * 9 // 10)
    flask = Path(sys.executable).with_name("flask")
    command = [str(flask), "db", "prune-history", "--before", before, "--yes", "--json"]
    environ = {**os.environ, "ROSTER_INSTANCE_PATH": str(catalogue.instance)}
    with roster(catalogue.instance) as server, writing(server, catalogue) as (idle, _):
        time.sleep(3)
    with roster(catalogue.instance) as server, writing(server, catalogue) as (taken, refused):
        started = time.perf_counter()
        with (
            subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
            ) as process,
            watched(lambda: [process.pid]) as cost,
        ):
            out, _ = process.communicate()
        seconds = time.perf_counter() - started
    if process.returncode or refused:
        raise LoadFailed(f"pruning ended with {process.returncode}, {refused} were refused")
    removed = json.loads(out)["lines"]
    table = Table(
        f"Pruning {removed:,} lines while one client writes",
        ("what", "figure"),
    )
    table.rows += [
        ("seconds", f"{seconds:.1f}"),
        ("peak MiB", f"{cost.peak:.0f}"),
        ("longest POST before, ms", f"{max(idle):.1f}"),
        ("longest POST meanwhile, ms", f"{max(taken):.1f}"),
        ("p50 of a POST meanwhile, ms", f"{percentile(taken, 50):.2f}"),
    ]
    found.data |= {
        "history.prune.seconds": spread([seconds]),
        "history.prune.peak": spread([cost.peak]),
        "history.prune.longest": spread([max(taken)]),
    }
    found.tables.append(table)


def _get(connection: Connection, catalogue: Catalogue, path: str) -> float:
    answer = connection.get(path, catalogue.admin)
    if answer.status != 200:
        raise LoadFailed(f"{path} was answered with {answer.status}: {answer.body[:200]!r}")
    return answer.seconds * 1000
