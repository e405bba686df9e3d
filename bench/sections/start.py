"""What a worker takes before it has answered much: time to start, and memory."""

import time
from contextlib import AbstractContextManager

from bench.catalogue import Catalogues
from bench.client import fetch
from bench.figures import spread
from bench.findings import Findings, Table
from bench.load import Target, wrk
from bench.plan import Plan
from bench.processes import Server, memory
from bench.servers import roster, yardstick

NAME = "start"

SIZE = 300


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
    return found


def _weigh(serving: AbstractContextManager[Server], connections: int) -> dict[str, float]:
    started = time.perf_counter()
    with serving as server:
        fetch(server.port, "/v1/models")
        seconds = time.perf_counter() - started
        wrk(Target(server), 1, connections)
        [worker] = server.workers()
        return {"seconds": seconds, **memory(worker)}
