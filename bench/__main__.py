"""``python -m bench``: measure, and print and keep what was found."""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.catalogue import Catalogues
from bench.findings import Findings
from bench.load import LoadFailed
from bench.plan import Plan
from bench.processes import ServerFailed
from bench.sections import (
    bounds,
    freshness,
    growth,
    history,
    imports,
    metrics,
    outage,
    reads,
    reload,
    spread,
    start,
    storm,
    writes,
)

SECTIONS = {
    section.NAME: section
    for section in (
        *(reads, spread, writes, start, growth, storm, freshness),
        *(outage, metrics, reload, bounds, imports, history),
    )
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections that were asked for."""
    asked = _parser().parse_args(arguments)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # servers are stopped, too
    with tempfile.TemporaryDirectory(prefix="roster-bench-", dir=asked.folder) as folder:
        plan = _plan(asked, Path(folder))
        catalogues = Catalogues(plan.folder, full=asked.full)
        findings = []
        for name in asked.only or SECTIONS:
            sys.stderr.write(f"{name}\n")
            try:
                findings.append(SECTIONS[name].run(plan, catalogues))
            except (ServerFailed, LoadFailed, OSError, subprocess.SubprocessError) as error:
                findings.append(Findings(name, notes=[f"The section failed: {error}"]))
        whole = not (asked.only or asked.quick or _narrow(asked))
        given = sys.argv[1:] if arguments is None else arguments
        command = shlex.join(["python", "-m", "bench", *given])
        report.publish(findings, plan, command=command, whole=whole)


def _plan(asked: argparse.Namespace, folder: Path) -> Plan:
    quick = {"rounds": 1, "seconds": 1, "warm_up": 0} if asked.quick else {}
    given = {
        name: value
        for name in ("rounds", "seconds", "sizes", "subjects", "cases", "connections", "tree")
        if (value := getattr(asked, name)) is not None
    }
    return Plan(folder=folder, peers=asked.peers, quick=asked.quick, **{**quick, **given})


def _narrow(asked: argparse.Namespace) -> bool:
    return bool(asked.full or asked.sizes or asked.subjects or asked.cases or asked.tree)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round of all, to test the bench itself")
    add("--only", action="append", choices=list(SECTIONS), help="a section; may be repeated")
    add("--peers", action="store_true", help="install FastAPI and LiteLLM and measure them too")
    add("--rounds", type=int, help="interleaved rounds (default 5)")
    add("--seconds", type=int, help="of each load (default 3)")
    add("--connections", type=int, help="of wrk (default 16)")
    add("--sizes", type=_numbers, help="catalogue sizes to read, such as 1,300")
    add("--subjects", type=_names, help="who is to read, such as 'service,bare Flask'")
    add("--cases", type=_names, help="which requests, such as '200,200 key', or 'direct 2 16'")
    add("--tree", type=Path, help="another checkout with a .venv: spread compares p99 with it")
    add("--full", action="store_true", help="entries of which everything is known")
    add("--folder", type=Path, help="where the temporary folder goes: writes want a real disk")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
