"""Fairness: one model for one client, while another client sends requests by the clock."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from bench.catalogue import Catalogue, model_id
from bench.client import Connection
from bench.figures import Spread, percentile, ratios, spread
from bench.findings import Findings, Table
from bench.flood import CONNECTIONS, RATE, Flood, flood
from bench.load import LoadFailed
from bench.plan import Plan
from bench.processes import Server, settle
from bench.servers import roster

#: The requests of the other client by name, made of a number that is new each time, and of the
#: size of the catalogue.
#: The first is the yardstick: what a flood of the cheapest requests does on this machine.
KINDS: Mapping[str, Callable[[int, int], str]] = {
    "one model": lambda _, __: f"GET /v1/models/{model_id(2)}",
    "HEAD after=new": lambda new, _: f"HEAD /v1/models?after=!{new}",
    "q=e": lambda _, __: "GET /v1/models?q=e",
    "q=new": lambda new, _: f"GET /v1/models?q=rare{new}",
    "q=few": lambda new, _: f"GET /v1/models?q={new % 900 + 100}",
    "limit=new": lambda new, _: f"GET /v1/models?limit={new % 1000 + 1}",
    "owned_by=new": lambda new, _: f"GET /v1/models?owned_by=owner{new}",
    "limit=1000": lambda new, size: f"GET /v1/models?limit=1000&after={model_id(new * 7 % size)}",
}

#: How long each part of a quick run takes, in seconds.
QUICK = 0.25

#: The figures of one client: p50 and p99 in milliseconds, and reads a second.
_Read = Mapping[str, float]


def measure_fairness(found: Findings, plan: Plan, catalogue: Catalogue) -> None:
    """Read one model in turn with nothing else going on, and during a flood of each kind."""
    size = catalogue.size
    seconds = QUICK if plan.quick else float(plan.seconds)
    idle: dict[str, list[_Read]] = {kind: [] for kind in KINDS}
    busy: dict[str, list[_Read]] = {kind: [] for kind in KINDS}
    floods: dict[str, list[Flood]] = {kind: [] for kind in KINDS}
    numbers = count()
    with roster(catalogue.instance, workers=2, log=True) as server:
        for request in KINDS.values():
            _check(server, request(next(numbers), size))
        for _ in range(plan.rounds_at(size)):
            for kind, request in KINDS.items():
                requests = [request(next(numbers), size) for _ in range(int(RATE * seconds))]
                settle(server)
                idle[kind].append(_read(server, seconds))
                with flood(server, requests, seconds=seconds, folder=plan.folder) as flooding:
                    busy[kind].append(_read(server, seconds))
                floods[kind].append(flooding)
    _report(found, size, idle, busy, floods)


def _check(server: Server, request: str) -> None:
    method, _, path = request.partition(" ")
    with Connection(server.port) as connection:
        status = connection.send(method, path, discard=True).status
    if status != 200:
        raise LoadFailed(f"{request} was answered with {status}")


def _read(server: Server, seconds: float) -> _Read:
    """Read one model again and again, each time as soon as the last answer is there."""
    path = f"/v1/models/{model_id(1)}"
    times = []
    with Connection(server.port) as connection:
        connection.get(path)
        started = time.perf_counter()
        while time.perf_counter() < started + seconds:
            answer = connection.get(path)
            if answer.status != 200:
                raise LoadFailed(f"{path} was answered with {answer.status}")
            times.append(answer.seconds * 1000)
        taken = time.perf_counter() - started
    reads = len(times) / taken
    return {"p50": percentile(times, 50), "p99": percentile(times, 99), "reads": reads}


def _report(
    found: Findings,
    size: int,
    idle: Mapping[str, Sequence[_Read]],
    busy: Mapping[str, Sequence[_Read]],
    floods: Mapping[str, Sequence[Flood]],
) -> None:
    table = Table(
        f"One model of {size:,} for one client, two workers, while another address sends {RATE} "
        f"requests a second on {CONNECTIONS} connections",
        ("sent", "p50 ms", "p99 ms", "reads/s", "p99 over idle", "answered/s", "not 200"),
    )
    name = f"bounds.fairness.{size}"
    quiet = _spreads([one for ones in idle.values() for one in ones])
    found.data |= {f"{name}.idle.{part}": figure for part, figure in quiet.items()}
    table.rows.append(("nothing", *map(str, quiet.values()), "", "", ""))
    for kind, ones in busy.items():
        figures = {
            **_spreads(ones),
            "ratio": ratios([one["p99"] for one in ones], [one["p99"] for one in idle[kind]]),
            "answered": spread(flooding.per_second for flooding in floods[kind]),
        }
        found.data |= {f"{name}.{kind}.{part}": figure for part, figure in figures.items()}
        refused = sum(flooding.refused for flooding in floods[kind])
        table.rows.append((kind, *map(str, figures.values()), f"{refused:,}"))
    found.tables.append(table)
    found.note(
        "p99 is of reads: where one waits long and thousands after it do not, the reads a second "
        'show it, and p99 does not. A flood of "one model" has no target: it shows what the '
        "cheapest requests do on this machine."
    )
    closed = sum(flooding.closed for ones in floods.values() for flooding in ones)
    if closed:
        found.note(f"{size:,} entries: the service closed {closed:,} connections of the flood.")


def _spreads(reads: Sequence[_Read]) -> dict[str, Spread]:
    return {part: spread(one[part] for one in reads) for part in reads[0]}
