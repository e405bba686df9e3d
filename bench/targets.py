"""What the service must show. The limits are pinned: a figure that misses one says so."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass

from bench.figures import Spread, number
from bench.findings import Table

#: Of memory that does not grow: the MiB by which a worker's differs from minute to minute.
FLAT = 10

#: Of two p99: what one tree shows against itself.
ALIKE = 1.1

_COMPARE = {"≤": operator.le, "≥": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Goal:
    """One limit on the median of one figure."""

    point: int
    what: str
    figure: str
    sign: str
    limit: float

    def met(self, measured: Spread) -> bool:
        """Tell whether the median keeps to the limit."""
        return bool(_COMPARE[self.sign](measured.median, self.limit))


def _reads() -> list[Goal]:
    goals = []
    for case, limit in (("200", 1.0), ("200 key", 1.05)):
        key = "with a key" if "key" in case else "without a key"
        goals += [
            Goal(
                1,
                f"CPU over bare Flask, {key}, {size:,}",
                f"reads.{size}.{case}.service.cpu_ratio",
                "≤",
                limit,
            )
            for size in (1, 300, 2_500)
        ]
    goals.append(
        Goal(
            1,
            "requests/s of 304 over bare Flask's 200, 300",
            "reads.300.304.service.per_second_ratio",
            "≥",
            1.4,
        )
    )
    for who, limits in (("naive Flask", (3, 45, 140)), ("LiteLLM", (11, 180, 600))):
        goals += [
            Goal(
                2,
                f"CPU of {who} over ours, {size:,}",
                f"reads.{size}.200.{who}.cpu_ratio",
                "≥",
                limit,
            )
            for size, limit in zip((1, 300, 2_500), limits, strict=True)
        ]
    goals += [
        Goal(3, "CPU through nginx over direct, 1", "reads.1.200.nginx.cpu_ratio", "≤", 1.25),
        Goal(
            3,
            "CPU of gzip over identity through nginx, 2,500",
            "reads.2500.200 gzip.nginx.cpu_ratio",
            "≤",
            0.2,
        ),
    ]
    goals += [
        Goal(
            3,
            f"requests/s of the micro-cache over nginx static, {size:,}",
            f"reads.{size}.200.nginx cached.per_second_ratio",
            "≥",
            limit,
        )
        for size, limit in ((1, 0.55), (300, 0.6), (2_500, 0.9))
    ]
    return goals


def _bounds() -> list[Goal]:
    kinds = ("HEAD after=new", "q=e", "q=new", "owned_by=new", "limit=1000")
    return [
        Goal(
            9,
            "MiB that 9,000 writes, new cursors add to a tenth",
            "bounds.cursors.growth",
            "≤",
            FLAT,
        ),
        Goal(
            10,
            "CPU s of 2,000 audiences after a public write",
            "bounds.audiences.after_write",
            "≤",
            0.2,
        ),
        *(
            Goal(
                11,
                f"p99 of one model over idle, {size:,}, under {kind}",
                f"bounds.fairness.{size}.{kind}.ratio",
                "≤",
                3,
            )
            for size in (2_500, 100_000)
            for kind in kinds
        ),
        Goal(
            12,
            "MiB that 4,500 writes, 45,000 reads add to a tenth",
            "bounds.readers.growth",
            "≤",
            FLAT,
        ),
        Goal(
            12,
            "cache of 1,000 audiences over its setting",
            "bounds.readers.cache_over_setting",
            "≤",
            1,
        ),
        Goal(
            13,
            "cache of 10,000 windows over its setting",
            "bounds.windows.cache_over_setting",
            "≤",
            1,
        ),
    ]


def _imports() -> list[Goal]:
    return [
        Goal(15, "CPU s of an import of 5,000", "imports.steps.sum", "≤", 1),
        *(
            Goal(
                15,
                f"{what} of an import of 100,000, {way}",
                f"imports.{way}.first.{part}",
                "≤",
                most,
            )
            for way in ("command", "HTTP")
            for what, part, most in (("s", "wall", 25), ("MiB over an idle worker", "above", 500))
        ),
        *(
            goal
            for size in (5_000, 100_000)
            for goal in (
                Goal(
                    15,
                    f"p99 of readers while {size:,} change, over idle",
                    f"imports.readers.{size}.ratio",
                    "≤",
                    4,
                ),
                Goal(
                    15,
                    f"longest POST while {size:,} change, over 'seconds', ms",
                    f"imports.writers.{size}.over",
                    "≤",
                    50,
                ),
            )
        ),
    ]


def _one_worker() -> list[Goal]:
    """Return the goals of a worker whose threads are free to move between cores."""
    bare = "bare Flask in our worker"
    return [
        *(
            Goal(
                17,
                f"CPU over {bare}, {case}, {size:,}",
                f"reads.{size}.{case}.service.cpu_ratio_in_our_worker",
                "≤",
                limit,
            )
            for case, limit in (("200", 1.0), ("200 key", 1.05))
            for size in (1, 300, 2_500)
        ),
        Goal(
            17,
            f"requests/s of 304 over {bare}'s 200, 300",
            "reads.300.304.service.per_second_ratio_in_our_worker",
            "≥",
            1.4,
        ),
        *(
            Goal(
                17,
                f"CPU, free to move over pinned, {case}, {size:,}",
                f"reads.{size}.{case}.service.over_pinned",
                "≤",
                1.25,
            )
            for case in ("200", "200 key", "304")
            for size in (1, 300, 2_500)
        ),
    ]


def _spread() -> list[Goal]:
    """Return the goals of connections that spread over the workers, at each load."""
    goals = []
    for way in ("direct", "nginx"):
        through = "through nginx" if way == "nginx" else way
        for workers, few in ((2, 1.25), (4, 1.3)):
            name, load = f"spread.{way}.{workers}", f"{workers} workers, {through}"
            goals += [
                Goal(
                    17,
                    f"busiest worker over mean, worst start, {load}, {count}",
                    f"{name}.{count}.worst",
                    "≤",
                    limit,
                )
                for count, limit in ((16, few), (64, few), (256, 1.15))
            ]
            goals += [
                Goal(17, f"share of the CPU left, {load}", f"{name}.share", "≥", 0.9),
                Goal(17, f"CPU over one worker, {load}", f"{name}.over_one", "≤", 1.05),
                Goal(17, f"p99 over the other tree, {load}", f"{name}.p99_over_tree", "≤", ALIKE),
            ]
    return goals


def _start() -> list[Goal]:
    return [
        Goal(
            17,
            f"s to the first {what} of 100,000, {workers}",
            f"start.first.largest.{workers}.{what}",
            "≤",
            limit,
        )
        for workers in (2, 1)
        for what, limit in (("model", 2), ("page", 2), ("list", 5))
    ]


GOALS = (
    *_reads(),
    *_one_worker(),
    *_spread(),
    Goal(4, "stale of 10,000 reads, direct", "freshness.direct.stale", "=", 0),
    Goal(4, "stale of 10,000 reads, through nginx", "freshness.nginx.stale", "=", 0),
    Goal(4, "failed requests in 20 reloads, 20,000", "reload.20000.failed", "=", 0),
    Goal(4, "longest wait in 20 reloads, 20,000, ms", "reload.20000.longest", "≤", 100),
    Goal(5, "p50 of a POST over the raw transaction", "writes.one.over_raw", "≤", 6.5),
    Goal(5, "p99 over p50, 8 clients, 1 worker", "writes.eight, 1 worker.tail", "≤", 3),
    Goal(5, "p99 over p50, 8 clients, 2 workers", "writes.eight, 2 workers.tail", "≤", 3),
    Goal(5, "p50 of a POST on PostgreSQL over raw", "writes.postgresql.over_raw", "≤", 3),
    Goal(6, "first image, 100,000, s", "growth.image_seconds", "≤", 6),
    Goal(6, "next list after a write, 100,000, ms", "growth.next_list", "≤", 250),
    Goal(6, "CPU of a page of 100, 100,000 over 300", "growth.page", "≤", 2),
    Goal(6, "p99 of 2,500 under 50 writes/s over idle", "storm.ratio", "≤", 4),
    Goal(14, "reads/s of a silent PostgreSQL over healthy", "outage.ratio", "≥", 0.5),
    Goal(14, "p99 of a read of a silent PostgreSQL, ms", "outage.silent.p99", "≤", 50),
    Goal(8, "CPU that metrics add to a read, 300, %", "metrics.percent", "≤", 3),
    Goal(7, "MiB of a worker over bare Flask, 300", "start.over.largest_of", "≤", 25),
    *_bounds(),
    *_imports(),
    *_start(),
    Goal(16, "a page of the log, anywhere over newest", "history.page", "≤", 1.5),
    Goal(16, "ms of the entries 1,000 revisions ago", "history.as_of.1000", "≤", 50),
    Goal(16, "ms of the entries 1,000,000 revisions ago", "history.as_of.all", "≤", 5_000),
    Goal(16, "longest POST while the log is pruned, ms", "history.prune.longest", "≤", 100),
)


def verdicts(data: Mapping[str, Spread], *, quick: bool) -> Table:
    """Return the table of goals: what was asked, what was measured, met or not.

    A `quick` run measures smaller things, and its verdicts are none.
    """
    table = Table("Targets", ("point", "figure", "target", "measured", "verdict"), words=2)
    for goal in GOALS:
        measured = data.get(goal.figure)
        if measured is None:
            shown, verdict = "-", "not measured"
        else:
            shown, verdict = str(measured), "met" if goal.met(measured) else "NOT MET"
            verdict += " (quick)" if quick else ""
        limit = f"{goal.sign} {number(goal.limit)}"
        table.rows.append((str(goal.point), goal.what, limit, shown, verdict))
    return table
