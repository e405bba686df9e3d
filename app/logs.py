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
from functools import lru_cache
from queue import SimpleQueue
from select import PIPE_BUF

#: How long access lines wait for company before they are written, in seconds.
PAUSE = 0.02
#: How many access lines may wait: some 2 MB.
MAX_WAITING = 10_000
#: How long an exit waits for the last lines to be read, in seconds.
EXIT_TIMEOUT = 1.0

_log = logging.getLogger("app.logs")  # also where this file is run by itself

#: What must not reach a log: our keys, also cut short, and whatever stands where a key stands,
#: in a header, in the repr of headers or in a query.
_SECRETS = re.compile(
    r"""ro_[0-9A-Za-z]{8}_[0-9A-Za-z]+
    | (?P<before> \bbearer\s+ | [?&]key=
        | (?:api[-_]key | authorization) ['"]? \s*[:=]\s* ['"]? (?:\w+\s+(?=\S))? )
      [^\s'",&]+""",
    re.IGNORECASE | re.VERBOSE,
)


def redact(text: str) -> str:
    """Return `text` with everything that may be a key replaced by ``[redacted]``."""
    return _SECRETS.sub(lambda match: (match["before"] or "") + "[redacted]", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: at, level, logger, pid, message, perhaps error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "at": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": redact(record.getMessage()),
        }
        if request_id := getattr(record, "request_id", None):
            line["request_id"] = request_id
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


def configure() -> None:
    """Let the application's loggers write JSON to standard error, unless they have a handler.

    The lines of ``flask run``'s own server stay as they are, but for what looks like a key.
    """
    logger = logging.getLogger("app")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
    logging.getLogger("werkzeug").addFilter(_redact_record)


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), ()
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
    """Lines on their way to standard output, written behind the requests that left them.

    A write hands the interpreter to another thread, and under load a request then waits for it
    longer than for everything else that we do. So a thread writes what came in a fiftieth of a
    second, in whole lines and in pieces that the kernel keeps together: lines of threads and
    processes cannot mix. Where nobody reads them (a stalled pipe, a full disk), lines are lost
    and counted, and requests are answered all the same. An exit writes what is left; a process
    that is killed loses a fiftieth of a second.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[bytes] = SimpleQueue()
        self._pid: int | None = None
        self._starting = threading.Lock()
        #: How many lines were lost so far.
        self.lost = 0

    def put(self, line: str) -> None:
        """Leave a line."""
        if self._pid != os.getpid():
            self._start()
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(line.encode())
        else:
            self.lost += 1

    def _start(self) -> None:
        with self._starting:
            if self._pid == os.getpid():
                return
            self._waiting = SimpleQueue()  # what waited before a fork is the parent's to write
            thread = threading.Thread(target=self._write, name="access lines", daemon=True)
            thread.start()
            atexit.register(self._end, thread)
            self._pid = os.getpid()

    def _end(self, thread: threading.Thread) -> None:
        self._waiting.put(b"")
        thread.join(EXIT_TIMEOUT)

    def _write(self) -> None:
        lines = [b"-"]
        told = 0
        while lines[-1]:  # an empty one is the last
            lines = [self._waiting.get()]
            time.sleep(PAUSE)
            while not self._waiting.empty():  # nobody else takes any
                lines.append(self._waiting.get())
            for piece in _pieces(lines):
                try:
                    os.write(1, piece)
                except OSError:  # the log may lie on the same full disk: it is not told there
                    self.lost += piece.count(b"\n")
                    told += piece.count(b"\n")
            if (lost := self.lost) > told:
                _log.warning("Lost %d access lines: standard output was not read.", lost - told)
                told = lost


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """Yield `lines` joined to pieces that a pipe takes whole."""
    piece = b""
    for line in lines:
        if len(piece) + len(line) > PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


#: The access lines of this process.
access_lines = Lines()


def write_access_line(
    *,
    pid: int,
    request_id: str,
    dialect: str,
    method: str,
    route: str | None,
    status: int,
    length: int,
    us: int,
    kid: str | None,
) -> None:
    """Leave the line of one request to be written.

    No text in it needs escaping: ids are letters, digits and a few signs, the names are ours,
    and a method that is more than letters is shown as a dash.
    """
    shown_kid = "null" if kid is None else f'"{kid}"'
    access_lines.put(
        f'{{"at": "{_timestamp(time.time())}", "pid": {pid}, "request_id": "{request_id}", '
        f'"dialect": "{dialect}", "method": "{method if method.isalpha() else "-"}", '
        f'"route": "{route or "-"}", "status": {status}, "bytes": {length}, "us": {us}, '
        f'"kid": {shown_kid}}}\n'
    )


def _timestamp(seconds: float) -> str:
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


@lru_cache(maxsize=1)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
