"""One measured load: wrk for requests a second and latency, /proc for the CPU they cost."""

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from bench.client import Connection
from bench.figures import percentile
from bench.plan import Plan
from bench.processes import Server, settle

#: Below so many requests a second, those that wrk abandons at its end would show in the CPU.
FEW = 200

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class LoadFailed(Exception):
    """A server answered otherwise than it should under load."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of which server."""

    server: Server
    path: str = "/v1/models"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    #: Too slow for wrk: some requests one after the other are all that makes sense.
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one load showed."""

    requests: int
    per_second: float
    #: Milliseconds.
    p50: float
    p99: float
    #: Microseconds a request, of all its worker processes.
    cpu: float

    def as_json(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def measure(target: Target, plan: Plan, connections: int | None = None) -> Run:
    """Load `target` with wrk, after a warm-up, and weigh what it cost.

    Where few requests are answered in the time, CPU is taken from some that are sent one after
    the other: wrk leaves its last ones unanswered, and they would be paid by the counted ones.
    """
    check(target)
    if target.slow:
        return one_by_one(target, plan.times(20))
    connections = connections or plan.connections
    if plan.warm_up:
        wrk(target, plan.warm_up, connections)
    settle(target.server)
    before = target.server.cpu()
    requests, per_second, p50, p99 = wrk(target, plan.seconds, connections)
    used = target.server.cpu() - before
    if per_second < FEW:
        settle(target.server)
        cpu = one_by_one(target, min(50, max(3, int(per_second)))).cpu
    else:
        cpu = used / requests * 1e6
    return Run(requests, per_second, p50, p99, cpu)


def check(target: Target) -> None:
    """Ask ten times before anything is measured, and look at the status."""
    with Connection(target.server.port) as connection:
        for _ in range(1 if target.slow else 10):
            status = connection.get(target.path, target.headers).status
            if status != target.status:
                raise LoadFailed(f"{target.path} was answered with {status}")


def one_by_one(target: Target, count: int) -> Run:
    """Send `count` requests on one connection: slow, but exact."""
    with Connection(target.server.port) as connection:
        connection.get(target.path, target.headers)
        before = target.server.cpu()
        started = time.perf_counter()
        answers = (connection.get(target.path, target.headers) for _ in range(count))
        times = [answer.seconds * 1000 for answer in answers]
        seconds = time.perf_counter() - started
        used = target.server.cpu() - before
    p50, p99 = percentile(times, 50), percentile(times, 99)
    return Run(count, count / seconds, p50, p99, used / count * 1e6)


def wrk(target: Target, seconds: int, connections: int) -> tuple[int, float, float, float]:
    """Return requests, requests a second, and p50 and p99 in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency"]
    for name, value in target.headers.items():
        command += ["-H", f"{name}: {value}"]
    command.append(f"http://127.0.0.1:{target.server.port}{target.path}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        raise LoadFailed(f"{refused[1]} requests for {target.path} were refused")
    counted = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", said)
    if counted is None:
        raise LoadFailed(f"wrk said: {said}{done.stderr}")
    requests = int(counted[1])
    took = float(counted[2]) * _UNITS[counted[3]] / 1000
    return requests, requests / took, _latency(said, 50), _latency(said, 99)


def _latency(said: str, percent: int) -> float:
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m)", said, flags=re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
