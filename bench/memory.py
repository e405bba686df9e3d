"""The memory of a worker over many rounds: at the start, after a tenth of them, at the end."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.client import fetch
from bench.figures import number, spread
from bench.findings import Findings, Table
from bench.load import LoadFailed
from bench.processes import Server, memory

MIB = 2**20

#: The part of all rounds after which nothing may grow any more: one in so many.
TENTH = 10
#: How often the worker's memory is compared with the most that it may take.
CHECKS = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of the only worker of a server at one moment, in MiB."""

    #: Rounds so far.
    done: int
    rss: float
    uss: float
    #: Of the ready replies, by /metrics.
    cache: float


@dataclass(frozen=True, slots=True)
class Course:
    """The samples of one measurement."""

    start: Sample
    #: The same as `start` where the measurement ended before.
    tenth: Sample
    end: Sample
    #: Why it ended early; empty where it did not.
    stopped: str

    @property
    def growth(self) -> float:
        """Return by how many MiB RSS grew after the first tenth."""
        return self.end.rss - self.tenth.rss


def sample(server: Server, done: int = 0) -> Sample:
    """Return the memory of the worker now, after `done` rounds."""
    [worker] = server.workers()
    taken = memory(worker)
    text = fetch(server.port, "/metrics").body.decode()
    cache = re.search(r"^roster_reply_cache_bytes (\S+)$", text, re.MULTILINE)
    if cache is None:
        raise LoadFailed("/metrics has no roster_reply_cache_bytes")
    return Sample(done, taken["rss"], taken["uss"], float(cache[1]) / MIB)


def follow(
    server: Server,
    rounds: int,
    step: Callable[[int], None],
    *,
    size: int = 1,
    most: float,
    seconds: float,
) -> Course:
    """Run `rounds` rounds and take samples; each call of `step` runs the next `size` of them.

    It is called with the number of rounds so far. The measurement ends early when the worker
    takes more than `most` MiB, or after `seconds`.
    """
    [worker] = server.workers()
    start = tenth = sample(server)
    stopped = ""
    done = checked = 0
    deadline = time.monotonic() + seconds
    while done < rounds and not stopped:
        step(done)
        done += size
        if tenth is start and done >= rounds // TENTH:
            tenth = sample(server, done)
        if done >= checked + rounds // CHECKS:
            checked = done
            if memory(worker)["rss"] > most:
                stopped = f"the worker takes more than {number(most)} MiB"
        if time.monotonic() > deadline:
            stopped = f"{number(seconds)} seconds have passed"
    return Course(start, tenth, sample(server, done), stopped)


def report(
    found: Findings, name: str, title: str, course: Course, *, limit: float, what: str
) -> None:
    """Add a course as a table and as data; `limit` is ROSTER_CACHE_BYTES in MiB.

    `what` are the rounds, in the plural.
    """
    table = Table(title, (f"after {what}", "RSS MiB", "USS MiB", "cache MiB, by /metrics"))
    for moment in ("start", "tenth", "end"):
        one: Sample = getattr(course, moment)
        parts = {"rss": one.rss, "uss": one.uss, "cache": one.cache}
        found.data |= {f"{name}.{moment}.{part}": spread([mib]) for part, mib in parts.items()}
        if moment == "start" or one is not course.start:
            table.rows.append((f"{one.done:,}", *map(number, parts.values())))
    whole, own = course.growth, course.end.uss - course.tenth.uss
    table.rows.append(("growth after the first tenth", number(whole), number(own), ""))
    found.tables.append(table)
    found.data[f"{name}.growth"] = spread([course.growth])
    found.data[f"{name}.cache_over_setting"] = spread([course.end.cache / limit])
    if course.stopped:
        found.note(f"{title}: ended after {course.end.done:,} {what}, because {course.stopped}.")
