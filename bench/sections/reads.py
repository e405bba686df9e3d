"""The list: what it costs at each size, with a key and without, 200 and 304, plain and gzip."""

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace

from bench.catalogue import Catalogues
from bench.contestants import IN_OUR_WORKER, Contest
from bench.figures import Spread, number, ratios, spread
from bench.findings import Findings, Table
from bench.load import LoadFailed, Run, measure
from bench.plan import Plan

NAME = "reads"

#: Case, who, and what it is measured against: case and name.
MEASURES: tuple[tuple[str, str, tuple[str, str] | None], ...] = (
    ("200", "bare Flask", None),
    ("200", IN_OUR_WORKER, ("200", "bare Flask")),
    ("200", "service", ("200", "bare Flask")),
    ("200", "bare WSGI", ("200", "bare Flask")),
    ("200", "naive Flask", ("200", "service")),
    ("200", "FastAPI", ("200", "service")),
    ("200", "LiteLLM", ("200", "service")),
    ("200", "nginx static", None),
    ("200", "nginx", ("200", "service")),
    ("200", "nginx cached", ("200", "nginx static")),
    ("200 key", "bare Flask", None),
    ("200 key", IN_OUR_WORKER, ("200 key", "bare Flask")),
    ("200 key", "service", ("200 key", "bare Flask")),
    ("200 key", "nginx", ("200 key", "service")),
    ("200 gzip", "bare Flask", None),
    ("200 gzip", "service", ("200 gzip", "bare Flask")),
    ("200 gzip", "bare WSGI", ("200 gzip", "bare Flask")),
    ("200 gzip", "nginx static", None),
    ("200 gzip", "nginx", ("200", "nginx")),
    ("200 gzip", "nginx cached", ("200 gzip", "nginx static")),
    ("200 key gzip", "bare Flask", None),
    ("200 key gzip", "service", ("200 key gzip", "bare Flask")),
    ("304", "service", ("200", "bare Flask")),
    ("304", "nginx", ("304", "service")),
    ("304 key", "service", ("200", "bare Flask")),
    ("304 gzip", "service", ("200", "bare Flask")),
    ("304 key gzip", "service", ("200", "bare Flask")),
)
#: With 50 MB in a reply, these tell enough.
_LARGE = {("200", who) for who in ("bare Flask", "service", "bare WSGI", "nginx static")} | {
    ("200", "naive Flask"),
    ("200", "nginx"),
    ("200 key", "service"),
    ("304", "service"),
}

#: What is measured with all threads of a worker on one core, too: one interpreter, which is handed
#: from thread to thread, costs more when it also goes from core to core.
_PINNED = {"200", "200 key", "304"}

#: By case and name, a run for each round.
Runs = dict[tuple[str, str], list[Run]]


def run(plan: Plan, catalogues: Catalogues) -> Findings:
    """Measure every size, one after the other."""
    found = Findings(NAME)
    for size in plan.sizes:
        size = plan.largest if size >= 100_000 else size  # noqa: PLW2901
        with ExitStack() as stack:
            folder = plan.folder / f"reads-{size}"
            folder.mkdir()
            contest = Contest(stack, plan, catalogues.of(size), folder, found)
            contest.enter()
            runs = _rounds(plan, contest, size, found)
        _report(found, contest, size, runs)
    return found


def _rounds(plan: Plan, contest: Contest, size: int, found: Findings) -> Runs:
    wanted = [
        (case, who, pinned)
        for case, who, _ in MEASURES
        if (not plan.subjects or who in plan.subjects)
        and (not plan.cases or case in plan.cases)
        and (size < 10_000 or (case, who) in _LARGE)
        and (case, who) in contest.targets
        for pinned in ((False, True) if _is_pinned(case, who, size) else (False,))
    ]
    runs: Runs = {}
    rounds = plan.rounds_at(size)
    for turn in range(rounds):
        for case, who, pinned in wanted:
            target = contest.targets[case, who]
            name = f"{case} pinned" if pinned else case
            warmed = replace(plan, warm_up=0) if pinned else plan
            try:
                with target.server.pinned() if pinned else nullcontext():
                    done = measure(target, warmed, plan.connections_at(size))
            except (LoadFailed, ConnectionError, OSError) as error:
                found.note(f"{size:,} entries, {name}, {who}: failed: {error}.")
                continue
            runs.setdefault((name, who), []).append(done)
            sys.stderr.write(
                f"{turn + 1}/{rounds}  {size:>7,} entries  {name:<15} {who:<24}"
                f"{number(done.cpu):>9} µs {number(done.per_second):>9}/s "
                f"p99 {number(done.p99)} ms\n"
            )
    return {pair: found for pair, found in runs.items() if len(found) == rounds}


def _is_pinned(case: str, who: str, size: int) -> bool:
    """Return whether a request is measured pinned, too: where the worker has several threads."""
    return case in _PINNED and not who.startswith("nginx") and size < 10_000


def _report(found: Findings, contest: Contest, size: int, runs: Runs) -> None:
    table = Table(
        f"Reads of {size:,} entries: {contest.sizes}",
        (
            "request",
            "who",
            "CPU µs",
            "pinned CPU µs",
            "free over pinned",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "against",
            "CPU ratio",
            "requests/s ratio",
        ),
        words=2,
    )
    for case, who, yardstick in MEASURES:
        if (case, who) not in runs:
            continue
        own = runs[case, who]
        name = f"reads.{size}.{case}.{who}"
        figures: dict[str, Spread] = {
            part: spread(getattr(one, part) for one in own)
            for part in ("cpu", "per_second", "p50", "p99")
        }
        if (pinned := runs.get((f"{case} pinned", who))) is not None:
            figures["pinned"] = spread(run.cpu for run in pinned)
            figures["pinned_per_second"] = spread(run.per_second for run in pinned)
            figures["over_pinned"] = ratios([r.cpu for r in own], [r.cpu for r in pinned])
        shown = ("cpu", "pinned", "over_pinned", "per_second", "p50", "p99")
        row = [str(figures[part]) if part in figures else "" for part in shown]
        against = [] if yardstick is None else [("", yardstick)]
        if who == "service" and yardstick is not None:
            against.append(("_in_our_worker", (yardstick[0], IN_OUR_WORKER)))
        compared = [(kind, other) for kind, other in against if other in runs]
        for kind, other in compared:
            theirs = runs[other]
            cpu = ratios([r.cpu for r in own], [r.cpu for r in theirs])
            rate = ratios([r.per_second for r in own], [r.per_second for r in theirs])
            figures |= {f"cpu_ratio{kind}": cpu, f"per_second_ratio{kind}": rate}
            label = other[1] if other[0] == case else f"{other[1]}, {other[0]}"
            table.rows.append((case, who, *row, label, str(cpu), str(rate)))
            row = [""] * len(shown)  # these figures are in the row above
        if not compared:
            table.rows.append((case, who, *row, "", "", ""))
        found.data |= {f"{name}.{part}": value for part, value in figures.items()}
    found.tables.append(table)
