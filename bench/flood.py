"""A flood: requests by the clock on many connections of one address.

They are sent by a process of its own, ``python -m bench.flood``: in the process that measures,
its threads would hold the interpreter while the measured client waits for it.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Connection
from bench.lanes import connections_to_each
from bench.load import LoadFailed
from bench.processes import PATIENCE, Server, process

#: The address of the flood, which is not that of the measured client.
ADDRESS = "127.0.0.2"
CONNECTIONS = 16
#: Requests a second, on all connections together.
RATE = 100

_READY = "ready"
#: As clients send it.
_HEADERS = {"Accept-Encoding": "gzip"}


@dataclass(slots=True)
class Flood:
    """The answers to the requests; complete at the end of the block of `flood`."""

    #: Answers by status.
    answered: Counter[int] = field(default_factory=Counter)
    #: Connections that the server closed.
    closed: int = 0
    #: From the first request to the end.
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Return the answers a second, of any status."""
        return self.answered.total() / self.seconds

    @property
    def refused(self) -> int:
        """Return how many answers had another status than 200."""
        return self.answered.total() - self.answered[200]


@contextmanager
def flood(
    server: Server, requests: Sequence[str], *, seconds: float, folder: Path
) -> Iterator[Flood]:
    """Send `requests`, such as ``GET /v1/models``, from the start of the block.

    `RATE` a second are sent, or fewer where the answers take long, and nothing after `seconds`.
    `server` is a Roster with a log: each of its workers gets an equal part of the connections.
    """
    given, out, err = (folder / f"flood.{name}" for name in ("txt", "out", "err"))
    given.write_text("\n".join(requests))
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.flood", server.pid, server.port, server.out]
    with process([*command, given, seconds], err=err, out=out) as started:
        deadline = time.monotonic() + PATIENCE
        while _READY not in out.read_text():
            if started.poll() is not None or time.monotonic() > deadline:
                raise LoadFailed(f"The flood did not start: {err.read_text()[-2000:]}")
            time.sleep(0.005)
        found = Flood()
        yield found
        started.wait(seconds + PATIENCE)
    if started.returncode:
        raise LoadFailed(f"The flood failed: {err.read_text()[-2000:]}")
    answered, found.closed, found.seconds = json.loads(out.read_text().partition(_READY)[2])
    found.answered = Counter({int(status): number for status, number in answered.items()})


def main() -> None:
    """Connect, print that it is ready, send the requests, and print the answers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=main.__doc__)
    for name, kind in (("pid", int), ("port", int), ("log", Path), ("requests", Path)):
        parser.add_argument(name, type=kind)
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    server = Server(asked.pid, asked.port, out=asked.log)
    requests = asked.requests.read_text().splitlines()
    count = CONNECTIONS // len(server.workers())
    path = "/v1/models?limit=1"
    with connections_to_each(server, count=count, path=path, source=ADDRESS) as kept:
        connections = [connection for lane in kept.values() for connection in lane]
        print(_READY, flush=True)
        found = _send_all(asked.port, connections, requests, asked.seconds)
    print(json.dumps([found.answered, found.closed, found.seconds]), flush=True)


@dataclass(frozen=True, slots=True)
class _Clock:
    """When each request is due, and whether the time is over."""

    started: float
    over: threading.Event

    def wait(self, place: int) -> bool:
        """Wait until the request at `place` is due; return False when the time is over."""
        due = self.started + place / RATE
        return not self.over.wait(max(0.0, due - time.perf_counter()))


def _send_all(
    port: int, connections: list[Connection], requests: Sequence[str], seconds: float
) -> Flood:
    clock = _Clock(time.perf_counter(), threading.Event())

    def end() -> None:
        clock.over.set()
        for connection in connections:
            connection.abandon()  # the answers that are still to come count for nothing

    timer = threading.Timer(seconds, end)
    timer.start()
    with ThreadPoolExecutor(len(connections)) as pool:
        senders = [
            pool.submit(_send, port, connections, number, requests, clock)
            for number in range(len(connections))
        ]
        parts = [sender.result() for sender in senders]
    timer.cancel()
    answered = sum((part.answered for part in parts), Counter())
    closed = sum(part.closed for part in parts)
    return Flood(answered, closed, time.perf_counter() - clock.started)


def _send(
    port: int, connections: list[Connection], number: int, requests: Sequence[str], clock: _Clock
) -> Flood:
    """Send the requests of one connection: each when it is due, or after the last answer."""
    found = Flood()
    for place in range(number, len(requests), len(connections)):
        if not clock.wait(place):
            break
        method, _, path = requests[place].partition(" ")
        try:
            answer = connections[number].send(method, path, _HEADERS, discard=True)
        except ConnectionError:
            if clock.over.is_set():
                break
            found.closed += 1
            connections[number].close()
            connections[number] = Connection(port, source=ADDRESS)
        else:
            found.answered[answer.status] += 1
    return found


if __name__ == "__main__":
    main()
