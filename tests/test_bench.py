"""The bench: what it computes from what it measures. It measures nothing here."""

import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from bench.client import fetch
from bench.findings import Findings
from bench.processes import Server
from bench.sections import reads, spread
from bench.servers import yardstick
from bench.targets import GOALS


def test_an_idle_worker_counts_in_the_mean():
    """The busiest of two workers has twice the mean when the other one has nothing to do."""
    assert 2.0 == spread.busiest([7_890, 0])
    assert 1.0 == spread.busiest([5, 5, 5, 5])


def test_each_goal_of_the_spread_is_measured():
    """With another tree to compare with, the section has a figure for each of its goals."""
    parts = ("busiest", "busiest_cpu", "per_second", "p50", "p99", "cpu", "share")
    single = [(way, 1, count) for way, _, count in spread.CASES]
    loads = {
        (who, case): [dict.fromkeys(parts, 1.0), dict.fromkeys(parts, 2.0)]
        for who in ("service", "tree")
        for case in (*single, *spread.CASES)
    }
    found = Findings(spread.NAME)
    spread.report(found, loads, "service", spread.CASES)
    goals = {goal.figure for goal in GOALS if goal.figure.startswith("spread.")}

    assert set() == goals - set(found.data)
    assert 2.0 == found.data["spread.direct.4.64.worst"].median
    assert 1.5 == found.data["spread.direct.4.64.busiest"].median


def test_each_goal_of_the_reads_is_measured():
    """A goal of the reads is about a request and a server that the section measures."""
    measured = {(case, who) for case, who, _ in reads.MEASURES}
    goals = [goal.figure.split(".") for goal in GOALS if goal.figure.startswith("reads.")]

    assert set() == {(case, who) for _, _, case, who, _ in goals} - measured


def test_a_pinned_server_has_all_threads_on_one_core():
    """In the block each thread of a worker may use one core, and behind it all of them again."""
    program = "import threading; threading.Thread(target=input).start(); print(flush=True)"
    with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE) as process:
        process.stdout.readline()
        threads = [int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir()]
        with Server(process.pid).pinned():
            pinned = {frozenset(os.sched_getaffinity(thread)) for thread in threads}
        after = {frozenset(os.sched_getaffinity(thread)) for thread in threads}
        process.communicate(b"\n")

    assert 2 == len(threads)
    assert [1] == [len(cores) for cores in pinned]
    assert {frozenset(os.sched_getaffinity(0))} == after


@pytest.mark.slow
def test_a_yardstick_can_have_our_worker(tmp_path):
    """With BENCH_WORKER=roster a worker of our class answers the bytes of the yardstick."""
    body = tmp_path / "body.json"
    body.write_text("{}")
    with yardstick(tmp_path, "bare_flask", BENCH_BODY=str(body), BENCH_WORKER="roster") as server:
        answer = fetch(server.port, "/v1/models")
        refused = fetch(server.port, "/v1/models", {"a b": "no name of a header"})

    assert b"{}" == answer.body
    assert "invalid_request_error" == refused.json["error"]["type"]
