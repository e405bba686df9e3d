"""Servers as processes: started, found, weighed and stopped by their id."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan import ROOT

#: How long a server may take to start or to stop, in seconds.
PATIENCE = 60.0

_TICKS = os.sysconf("SC_CLK_TCK")  # in a second
_MEMORY = {"Rss": "rss", "Pss": "pss", "Private_Clean": "uss", "Private_Dirty": "uss"}


#: Variables that servers get of ours: no setting and no secret is among them.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class ServerFailed(Exception):
    """A server did not start; the message has what it said."""


@dataclass(slots=True)
class Server:
    """A running server on a port of 127.0.0.1, or on a Unix socket, where the port is 0."""

    pid: int
    port: int = 0
    #: The servers behind it, whose work is part of its own.
    behind: tuple["Server", ...] = ()
    socket: Path = Path(os.devnull)
    #: Where its standard output and standard error are written.
    out: Path = Path(os.devnull)
    err: Path = Path(os.devnull)

    def workers(self) -> list[int]:
        """Return the ids of its worker processes, or its own where it has none."""
        return children(self.pid) or [self.pid]

    def cpu(self) -> float:
        """Return the seconds of CPU that its workers, and those behind it, have used."""
        own = sum(map(cpu_seconds, self.workers()))
        return own + sum(server.cpu() for server in self.behind)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep all threads of its workers, and those that they start, on one core for a block."""
        free = os.sched_getaffinity(0)
        try:
            self._allow({max(free)})
            yield
        finally:
            self._allow(free)

    def _allow(self, cores: set[int]) -> None:
        for pid in self.workers():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(thread.name), cores)


def children(pid: int) -> list[int]:
    """Return the ids of the children of a process, whichever of its threads has started them."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def cpu_seconds(pid: int, *, ended_children: bool = False) -> float:
    """Return the CPU time of a process, its own and the system's on its behalf.

    That of its children that have ended is added where it is asked for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / _TICKS


def idle_seconds() -> float:
    """Return for how long the cores of this machine have had nothing to do, all together."""
    _, _, _, _, idle, waiting, *_ = Path("/proc/stat").read_text().split(maxsplit=6)
    return (int(idle) + int(waiting)) / _TICKS


def memory(pid: int) -> dict[str, float]:
    """Return MiB of a process: ``rss``; ``pss``, shared pages divided; ``uss``, its alone."""
    found = {"rss": 0.0, "pss": 0.0, "uss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        if name in _MEMORY:
            found[_MEMORY[name]] += int(value.split()[0]) / 1024
    return found


def settle(server: Server) -> None:
    """Wait until the server has finished what abandoned connections have left in its queue."""
    quiet = 0
    deadline = time.monotonic() + PATIENCE
    used = server.cpu()
    while quiet < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        now = server.cpu()
        quiet = quiet + 1 if now - used <= 0.01 else 0
        used = now


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str | Path],
    *,
    err: Path,
    environ: Mapping[str, str] | None = None,
    out: Path | None = None,
    patience: float = PATIENCE,
    folder: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in `folder` for the time of the block.

    Its standard output is discarded, or in `out`.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with (out or Path(os.devnull)).open("ab") as stdout, err.open("ab") as stderr:
        started = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**inherited, **(environ or {})},
            start_new_session=True,  # an interrupt of ours must find it still there, to stop it
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
        try:
            started.wait(patience)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def listening_port(started: subprocess.Popen[bytes], err: Path) -> int:
    """Return the port that the kernel chose for a gunicorn."""
    found = _wait(started, err, lambda: re.search(r"at: http://127\.0\.0\.1:(\d+)", _text(err)))
    return int(found[1])


def wait_for_port(started: subprocess.Popen[bytes], err: Path, port: int) -> None:
    """Return when the port takes connections."""

    def taken() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    _wait(started, err, taken)


def wait_for_socket(started: subprocess.Popen[bytes], err: Path, path: Path) -> None:
    """Return when the Unix socket is there."""
    _wait(started, err, path.is_socket)


def _wait(started: subprocess.Popen[bytes], err: Path, ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        if started.poll() is not None or time.monotonic() > deadline:
            raise ServerFailed(f"{started.args[0]} did not start:\n{_text(err)[-2000:]}")
        time.sleep(0.01)
    return found


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
