"""Connections that are known to reach different workers."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.client import Connection
from bench.processes import PATIENCE, Server


@contextmanager
def connections_to_each(
    server: Server, *, count: int = 1, path: str = "/v1/models", source: str = "127.0.0.1"
) -> Iterator[dict[int, list[Connection]]]:
    """Give `count` kept connections to each worker of a Roster with a log, by the worker's id.

    They come from the address `source`, and each has asked for `path` once.

    Which worker took a connection is in the access line of a request on it: the kernel often
    gives all of them to the same one.
    """
    deadline = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        found: dict[int, list[Connection]] = {pid: [] for pid in server.workers()}
        while any(len(kept) < count for kept in found.values()):
            if time.monotonic() > deadline:
                raise TimeoutError("one worker takes no connection")
            connection = Connection(server.port, source=source)
            kept = found[_pid(server, connection.get(path).headers["x-request-id"])]
            if len(kept) < count:
                kept.append(connection)
                stack.callback(connection.close)
            else:
                connection.close()
        yield found


def _pid(server: Server, request_id: str) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        *lines, _ = server.out.read_text().split("\n")  # the last one may not be whole yet
        for line in lines:
            if request_id in line:
                return int(json.loads(line)["pid"])
        time.sleep(0.01)  # the line may be written after the answer
    raise TimeoutError(f"no line of request {request_id}")


def pids(server: Server, route: str) -> Counter[int]:
    """Return how many requests for `route` each worker has logged."""
    text = server.out.read_text().splitlines()
    lines = (json.loads(line) for line in text if line.startswith("{"))  # not the start block
    return Counter(line["pid"] for line in lines if line.get("route") == route)
