"""What is printed: log lines in JSON, never with a key in them, and the start block.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import atexit
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from queue import SimpleQueue
from select import PIPE_BUF, select

#: How long access lines are collected before they are written together, in seconds.
PAUSE = 0.02
#: How many bytes of access lines may wait, and how many of error lines.
MAX_WAITING = 2_000_000  # some 10,000 access lines, or 200 long tracebacks
#: How many bytes more for the lines that report a loss.
RESERVE = 10_000
#: How long an exit waits for the last lines to be written, in seconds.
EXIT_TIMEOUT = 1.0

_log = logging.getLogger("app.logs")  # also where this file is run by itself

#: What must not reach a log: our keys, also cut short, folded or percent-encoded, and whatever
#: is in the position of a key in a header, in the repr of headers or in a query. `\\[rnt]` is what
#: a repr makes of white space.
_SECRETS = re.compile(
    r"""ro(?:_|%5f)[0-9a-z]{8}(?:_|%5f)
      (?: (?: (?:[\r\n]|\\[rn]) (?:\s|\\[rnt])* )? [0-9a-z] ){1,38} [0-9a-z]*
    | (?P<before> \bbearer (?:\s|\\[rnt])+ | [?&]key=
        | (?:api(?:[-_]|%5f|%2d)key | authorization) ['"]? (?:\s|\\[rnt])* [:=] (?:\s|\\[rnt])*
          ['"]? (?:\w+ (?:\s|\\[rnt])+ (?=\S))? )
      [^\s'",&]+""",
    re.IGNORECASE | re.VERBOSE,
)
# The server of `flask run` logs request lines, and `%6bey=` is a key= that nobody sees.
_QUERY = re.compile(r"\?\S+")


def redact(text: str) -> str:
    """Return `text` with everything that may be a key replaced by ``[redacted]``."""
    return _SECRETS.sub(lambda match: (match["before"] or "") + "[redacted]", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: at, level, logger, pid, message, perhaps request and error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "at": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": redact(record.getMessage()),
        }
        for name in ("request_id", "route"):
            if value := getattr(record, name, None):
                line[name] = value
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


def configure() -> None:
    """Let the application's loggers write JSON to standard error, unless they have a handler.

    The lines of ``flask run``'s own server stay as they are, except for queries and what may be a
    key.
    """
    logger = logging.getLogger("app")
    if not logger.handlers:
        handler = logging.StreamHandler(error_lines)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
    logging.getLogger("werkzeug").addFilter(_redact_record)
    _drain_at_exit()  # after all that logs at the exit and is registered later


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(_QUERY.sub("?…", record.getMessage())), ()
    return True


def start_block(facts: dict[str, str], address: str) -> str:
    """Return what a server prints once, at its start: `facts` of the store, what to try."""
    curl = f"curl {address}/v1/models"
    if address.startswith("unix:"):
        curl = f"curl --unix-socket {address.removeprefix('unix:')} http://localhost/v1/models"
    return (
        f"Roster {facts['version']} at {address}\n"
        f"  database   {facts['database']}\n"
        f"  admin key  {facts['admin key']}\n"
        f"  try        {curl}\n"
    )


class Lines:
    """Lines for one file descriptor, written by a thread of their own and not by requests.

    A write blocks while nobody reads, and even a short one hands the interpreter to another
    thread: under load a request then waits for it longer than for everything else that we do.
    So the thread writes what came within `pause` seconds, in whole lines and in pieces that the
    kernel does not split: lines of threads and processes do not mix, unless one is longer than
    a piece. At most `MAX_WAITING` bytes wait. Lines beyond that are lost, and so are those that
    cannot be written (a full disk). They are counted, and their number is logged when the
    descriptor takes lines again. An exit writes what waits; a process that is killed loses it.
    Where no thread can be started, a line is written at once or, if that would wait, lost.
    """

    def __init__(self, descriptor: int, kind: str, pause: float = 0) -> None:
        self._descriptor = descriptor
        self._kind = kind
        self._pause = pause
        self._waiting: SimpleQueue[bytes] = SimpleQueue()
        # Bytes that are not written yet. Counters need no lock: see app.metrics.tally.
        self._size = 0
        #: How many lines were lost so far.
        self.lost = 0
        self._reported = 0
        # The process whose thread writes. By process: the lock that is held while it starts.
        self._pid: int | None = None
        self._starting: dict[int, threading.Lock] = {}

    def fileno(self) -> int:
        """Return the descriptor, as files do."""
        return self._descriptor

    def write(self, line: str) -> None:
        """Leave a line to be written; neither wait nor fail."""
        if not self.put(line, MAX_WAITING):
            self.lost += 1

    def put(self, line: str, limit: int) -> bool:
        """Leave a line unless more than `limit` bytes would wait then; return whether it was."""
        data = line.encode("utf-8", "surrogateescape")
        size = len(data)
        if self._pid != os.getpid() and not self._start():
            return self._write_at_once(data)
        if self._size + size > limit:
            return False
        self._size += size
        self._waiting.put(data)
        return True

    def drain(self, deadline: float) -> None:
        """Wait until this process has written its lines, or until `deadline`, monotonic."""
        while self._size and self._pid == os.getpid() and time.monotonic() < deadline:
            time.sleep(0.001)

    def _start(self) -> bool:
        """Start the thread of this process, if none runs yet; return whether one runs."""
        pid = os.getpid()
        # After a fork, a lock of the parent may stay held, and its lines are its own to write.
        with self._starting.setdefault(pid, threading.Lock()):
            if self._pid != pid:
                waiting: SimpleQueue[bytes] = SimpleQueue()
                thread = threading.Thread(None, self._run, self._kind, (waiting,), daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has none left, or it is the exit of Python 3.12
                    return False
                self._waiting, self._size, self._reported = waiting, 0, self.lost
                self._pid = pid
                _drain_at_exit()
        return True

    def _run(self, waiting: "SimpleQueue[bytes]") -> None:
        torn = False  # whether the last line has no end: a full disk took a part of it
        while True:
            lines = [waiting.get()]
            time.sleep(self._pause)
            while not waiting.empty():  # nobody else takes any
                lines.append(waiting.get())
            pieces = list(_pieces(lines))
            for piece in pieces:
                data = b"\n" + piece if torn else piece
                rest = self._write(data)
                if rest:
                    lost = min(rest.count(b"\n"), piece.count(b"\n"))
                    self.lost += lost
                if written := data[: len(data) - len(rest)]:
                    torn = not written.endswith(b"\n")
                if not rest and piece is pieces[-1]:
                    self._report()
                size = len(piece)
                self._size -= size

    def _write(self, data: bytes) -> bytes:
        """Write as much as possible, however long that takes; return the rest."""
        with suppress(OSError):
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # another process that has the output open asked for it
                    select([], [self._descriptor], [])
        return data

    def _write_at_once(self, data: bytes) -> bool:
        """Write a line as far as it fits, without waiting; return whether all of it did."""
        with suppress(OSError, ValueError):  # select refuses a descriptor below 0
            while data and select([], [self._descriptor], [], 0)[1]:
                # More than that would wait, where the pipe takes only a part of it.
                data = data[os.write(self._descriptor, data[:PIPE_BUF]) :]
        return not data

    def _report(self) -> None:
        lost = self.lost
        if lost > self._reported:  # not by a logger: gunicorn's master has no handler for ours
            what = f"Lost {lost - self._reported} {self._kind}: not read, or the disk is full."
            record = _log.makeRecord(_log.name, logging.WARNING, "", 0, what, (), None)
            line = f"{JsonFormatter().format(record)}\n"
            if error_lines.put(line, MAX_WAITING + RESERVE):  # else the next batch tries again
                self._reported = lost


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """Yield `lines` joined to pieces that a pipe takes whole; a longer line is one piece."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


def drain() -> None:
    """Wait until this process has written its lines, for `EXIT_TIMEOUT` at most.

    An exit calls this; code that ends a process with ``os._exit`` must call it before.
    """
    deadline = time.monotonic() + EXIT_TIMEOUT
    access_lines.drain(deadline)  # it may leave an error line
    error_lines.drain(deadline)


@cache  # once, and forks inherit it
def _drain_at_exit() -> None:
    atexit.register(drain)


# A descriptor that was closed when the process started may belong to a connection by now.
#: The access lines of this process.
access_lines = Lines(1 if sys.__stdout__ else -1, "access lines", PAUSE)
#: Everything else that it logs. An output that nobody reads costs only the lines that go there.
error_lines = Lines(2 if sys.__stderr__ else -1, "error lines")


def write_access_line(
    *,
    pid: int,
    request_id: str,
    client: str | None,
    dialect: str,
    method: str,
    route: str | None,
    status: int,
    length: int,
    us: int,
    kid: str | None,
    refused: str | None,
) -> None:
    """Leave the line of one request to be written.

    No text in it needs escaping: ids and addresses are letters, digits and a few signs, the names
    are ours, and a method that is more than letters is shown as a dash.
    """
    shown_client = "null" if client is None else f'"{client}"'
    shown_kid = "null" if kid is None else f'"{kid}"'
    shown_refused = "null" if refused is None else f'"{refused}"'
    access_lines.write(
        f'{{"at": "{_timestamp(time.time())}", "pid": {pid}, "request_id": "{request_id}", '
        f'"client": {shown_client}, '
        f'"dialect": "{dialect}", "method": "{method if method.isalpha() else "-"}", '
        f'"route": "{route or "-"}", "status": {status}, "bytes": {length}, "us": {us}, '
        f'"kid": {shown_kid}, "refused": {shown_refused}}}\n'
    )


def _timestamp(seconds: float) -> str:
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


@lru_cache(maxsize=1)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
