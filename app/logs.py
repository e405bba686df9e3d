"""What is printed: log lines in JSON, never with a key in them, and the start block.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import json
import logging
import os
import re
import sys
import time
from functools import lru_cache

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
    """Write the line of one request to standard output, by one system call.

    Lines of threads and processes cannot mix, and the line costs 4 µs where `logging` takes 54.
    No text in it needs escaping: ids are letters, digits and a few signs, the names are ours,
    and a method that is more than letters is shown as a dash. Where nobody reads the lines (a
    closed pipe, a full disk), requests are answered all the same.
    """
    shown_kid = "null" if kid is None else f'"{kid}"'
    line = (
        f'{{"at": "{_timestamp(time.time())}", "pid": {pid}, "request_id": "{request_id}", '
        f'"dialect": "{dialect}", "method": "{method if method.isalpha() else "-"}", '
        f'"route": "{route or "-"}", "status": {status}, "bytes": {length}, "us": {us}, '
        f'"kid": {shown_kid}}}\n'
    )
    try:
        os.write(1, line.encode())
    except OSError:
        return


def _timestamp(seconds: float) -> str:
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


@lru_cache(maxsize=1)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
