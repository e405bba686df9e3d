"""What is measured while something else goes on: the memory of processes, the writes of others."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import Catalogue, new_entry
from bench.client import Connection
from bench.processes import Server

#: How often the memory of a process is looked at, in seconds.
INTERVAL = 0.01

_numbers = itertools.count(2_000_000)


@dataclass(slots=True)
class Cost:
    """What one import took."""

    answer: bytes | bytearray = b""
    wall: float = 0.0
    cpu: float = 0.0
    #: The most memory of its process, in MiB.
    peak: float = 0.0

    @property
    def waited(self) -> float:
        """Return how long others waited, by the answer, in seconds.

        It is read after what else is measured: to parse a long one takes our interpreter.
        """
        return float(json.loads(self.answer)["seconds"])


@contextmanager
def watched(pids: Callable[[], Sequence[int]]) -> Iterator[Cost]:
    """Give a cost that gets, until the end of the block, the most memory of these processes."""
    cost, over = Cost(), threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL):
            for pid in pids():
                with suppress(OSError, StopIteration):  # it has ended
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    most = next(line for line in lines if line.startswith("VmHWM"))
                    cost.peak = max(cost.peak, int(most.split()[1]) / 1024)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield cost
        finally:
            over.set()
        watching.result()


@contextmanager
def writing(server: Server, catalogue: Catalogue) -> Iterator[tuple[list[float], list[int]]]:
    """Create entries during the block; the lists get milliseconds, and statuses but 201."""
    over = threading.Event()
    times: list[float] = []
    refused: list[int] = []

    def write() -> None:
        with Connection(server.port) as connection:
            while not over.wait(0.005):
                fields = new_entry(next(_numbers))
                answer = connection.send("POST", "/admin/models", catalogue.admin, fields)
                times.append(answer.seconds * 1000)
                if answer.status != 201:
                    refused.append(answer.status)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield times, refused
        finally:
            over.set()
        writing.result()
