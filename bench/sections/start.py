"""What a worker takes before it has answered much: time to its first answers, and memory."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from bench.catalogue import Catalogue, Catalogues, model_id
from bench.client import fetch
from bench.figures import spread
from bench.findings import Findings, Table
from bench.load import LoadFailed, Target, wrk
from bench.plan import Plan
from bench.processes import Server, memory
from bench.servers import roster, yardstick

NAME = "start"

SIZE = 300
#: How often the service is started for its first answers.
STARTS = 5


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Start the service and the bare view in turn, load them and weigh their worker."""
    found = Findings(NAME)
    catalogue = catalogues.of(SIZE)
    with roster(catalogue.instance) as server:
        reply = fetch(server.port, "/v1/models").body
    body = plan.folder / "start.json"
    body.write_bytes(reply)
    large = catalogues.of(plan.largest)
    weighed: dict[str, list[dict[str, float]]] = {}
    for turn in range(plan.rounds):
        bare = yardstick(plan.folder, "bare_flask", BENCH_BODY=str(body))
        weighed.setdefault("bare Flask", []).append(_weigh(bare, 16))
        weighed.setdefault("service", []).append(_weigh(roster(catalogue.instance), 16))
        if turn < 2:
            weighed.setdefault("largest", []).append(_weigh(roster(large.instance), 4))
    table = Table(
        f"Start and memory of one worker, {SIZE} entries, after load",
        ("who", "first reply s", "RSS MiB", "PSS MiB", "USS MiB"),
    )
    names = {"largest": f"service, {plan.largest:,} entries"}
    for who, rounds in weighed.items():
        figures = {part: spread(one[part] for one in rounds) for part in rounds[0]}
        found.data |= {f"start.{who}.{part}": value for part, value in figures.items()}
        table.rows.append((names.get(who, who), *map(str, figures.values())))
    over = {
        part: spread(
            ours[part] - bare[part]
            for ours, bare in zip(weighed["service"], weighed["bare Flask"], strict=True)
        )
        for part in ("seconds", "rss", "pss", "uss")
    }
    found.data |= {f"start.over.{part}": value for part, value in over.items()}
    found.data["start.over.largest_of"] = max(
        over["rss"], over["uss"], key=lambda value: value.median
    )
    table.rows.append(("service over bare Flask", *map(str, over.values())))
    found.tables.append(table)
    found.note(f"At {plan.largest:,} entries the worker is loaded with whole lists of it.")
    _first_answers(found, plan, {f"{SIZE}": catalogue, "largest": large})
    return found


def _first_answers(found: Findings, plan: Plan, catalogues: Mapping[str, Catalogue]) -> None:
    """Start the service again and again, and ask for a model, a page and the list in turn."""
    paths = {"model": f"/v1/models/{model_id(0)}", "page": "/v1/models?limit=100"}
    paths["list"] = "/v1/models"
    table = Table(
        f"Seconds from the start of the process to the first answer, {STARTS} starts",
        ("entries, workers", *paths),
    )
    for name, catalogue in catalogues.items():
        for workers in (2, 1):
            seconds: dict[str, list[float]] = {what: [] for what in paths}
            for _ in range(plan.times(STARTS)):
                started = time.perf_counter()
                with roster(catalogue.instance, workers=workers) as server:
                    for what, path in paths.items():
                        if fetch(server.port, path).status != 200:
                            raise LoadFailed(f"{path} was not answered with 200")
                        seconds[what].append(time.perf_counter() - started)
            figures = {what: spread(taken) for what, taken in seconds.items()}
            found.data |= {f"start.first.{name}.{workers}.{x}": y for x, y in figures.items()}
            table.rows.append((f"{catalogue.size:,}, {workers}", *map(str, figures.values())))
    found.tables.append(table)


def _weigh(serving: AbstractContextManager[Server], connections: int) -> dict[str, float]:
    started = time.perf_counter()
    with serving as server:
        fetch(server.port, "/v1/models")
        seconds = time.perf_counter() - started
        wrk(Target(server), 1, connections)
        [worker] = server.workers()
        return {"seconds": seconds, **memory(worker)}
