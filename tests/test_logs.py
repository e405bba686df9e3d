"""The log lines: no key in them, one line each, and none holds up a request."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.keys import mint
from app.logs import JsonFormatter, configure, redact

ROOT = Path(__file__).parent.parent
#: A key, as far as its form goes.
KEY = "ro_7fGh2kLm_Zr8Qw3Xc5Vb7Nm9Lk1Jh2Gf4Ds6Ap0Tn4Yu6"

LINE = {
    "pid": 7,
    "request_id": "req_1",
    "client": "192.0.2.7",
    "dialect": "openai",
    "method": "GET",
    "route": None,
    "status": 200,
    "length": 42,
    "us": 99,
    "kid": None,
    "refused": None,
}

#: Texts with a secret, and the secret.
LEAKS = [
    (f"minted: {KEY}.", KEY[12:]),
    (f"x{KEY}x", KEY[12:]),
    (f"cut: {KEY[:-6]}", KEY[12:-6]),
    (f"cut: {KEY[:13]}", KEY[11:13]),
    (f"too long: {KEY}{KEY[-6:]}", KEY[12:]),
    (f"folded: {KEY[:20]}\r\n {KEY[20:]}", KEY[20:]),
    (f"folded: {KEY[:13]}\n\t{KEY[13:]}", KEY[13:]),
    (f"folded twice: {KEY[:20]}\r\n {KEY[20:30]}\r\n {KEY[30:]}", KEY[30:]),
    (repr(f"folded: {KEY[:20]}\r\n {KEY[20:]}"), KEY[20:]),
    (f"Referer: https://example.com/{KEY.replace('_', '%5F')}", KEY[12:]),
    ("Referer: https://example.com/?a=b&key=hunter2", "hunter2"),
    ("GET /?api%5Fkey=hunter2", "hunter2"),
    (repr("Authorization: Bearer\r\n 2f68dbbf-519d"), "2f68dbbf"),
    (repr("Authorization:\r\n\tBasic\r\n dXNlcjpwYXNz"), "dXNlcjpwYXNz"),
    ("Authorization: Bearer 2f68dbbf-519d", "2f68dbbf"),
    ("'HTTP_AUTHORIZATION': 'bearer 2f68dbbf-519d'", "2f68dbbf"),
    ("BEARER 2f68dbbf-519d", "2f68dbbf"),
    ("Bearer  2f68dbbf-519d", "2f68dbbf"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("authorization: one two", "two"),
    ("GET /v1/models?key=hunter2 HTTP/1.1", "hunter2"),
    ("GET /v1/models?a=b&KEY=hunter2&c=d", "hunter2"),
    ("x-api-key: hunter2", "hunter2"),
    ("X-Goog-Api-Key:hunter2", "hunter2"),
    ("X-Api-Key:\thunter2", "hunter2"),
    ("HTTP_X_API_KEY: hunter2", "hunter2"),
    ("{'X-Api-Key': 'hunter2'}", "hunter2"),
    ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
]


def line_of(message: object, *args: object, **attributes: object) -> str:
    record = logging.LogRecord("app.x", logging.WARNING, "x.py", 1, message, args, None)
    record.__dict__.update(attributes)
    return JsonFormatter().format(record)


@pytest.mark.parametrize(("text", "secret"), LEAKS)
def test_redacted(text: str, secret: str) -> None:
    """Whatever stands where a key stands is replaced."""
    redacted = redact(text)

    assert secret not in redacted
    assert "[redacted]" in redacted


@pytest.mark.parametrize(("text", "secret"), LEAKS[:6])
def test_redacted_in_lines(text: str, secret: str) -> None:
    """Neither a message, nor its arguments, nor an exception brings a key into a line."""
    try:
        raise ValueError(text)  # noqa: TRY301 - a traceback is wanted
    except ValueError:
        line = line_of("%s and %s", text, text, exc_info=sys.exc_info())

    assert secret not in line
    assert "[redacted]" in json.loads(line)["message"]
    assert "[redacted]" in json.loads(line)["error"]


def test_minted_keys() -> None:
    """Every key that we make is replaced, all of it."""
    assert ["[redacted]"] * 100 == [redact(mint()) for _ in range(100)]


@pytest.mark.parametrize(
    "text",
    ["", "ro_", "key 7fGh2kLm revoked", "/v1/models/gpt-4o?limit=5", "monkey=5", "bearer\n"],
)
def test_not_redacted(text: str) -> None:
    """Text without a key stays as it is."""
    assert text == redact(text)


def test_neighbours_stay() -> None:
    """What stands beside a key stays."""
    assert "GET /x?key=[redacted]&limit=5" == redact("GET /x?key=abc&limit=5")


@given(st.text())
def test_one_line(message: str) -> None:
    """A line is one line of JSON that gives back its message, whatever the message."""
    line = line_of(message)

    assert 1 == len(line.splitlines())
    assert redact(message) == json.loads(line)["message"]


@pytest.mark.parametrize("message", ["a\nb\r\n\\n\\", '"}\u2028{"', "\0\x1b[31m", "\udcff", "%s"])
def test_awkward_message(message: str) -> None:
    """Newlines, backslashes, quotes, control characters and lone surrogates are escaped."""
    line = line_of(message)

    assert line.isascii()
    assert line.isprintable()
    assert message == json.loads(line)["message"]


def test_fields() -> None:
    """A line says when, how bad, who and what; request and error where there is one."""
    request = {"request_id": "req_1", "route": "/v1/models"}
    line = json.loads(line_of("a %d", 1, created=1_800_000_000.25, **request))

    assert {
        "at": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "logger": "app.x",
        "pid": os.getpid(),
        "message": "a 1",
        **request,
    } == line


def test_exception() -> None:
    """The traceback is in the line, under error."""
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        line = line_of("x", exc_info=sys.exc_info())

    error = json.loads(line)["error"].splitlines()
    assert "Traceback (most recent call last):" == error[0]
    assert "ZeroDivisionError: division by zero" == error[-1]


@pytest.mark.parametrize("present", [True, False])
def test_configure(monkeypatch: pytest.MonkeyPatch, *, present: bool) -> None:
    """The application's logger gets one JSON handler, unless it has a handler already."""
    logger = logging.getLogger("app")
    own = logging.NullHandler()
    monkeypatch.setattr(logger, "handlers", [own] if present else [])

    configure()
    configure()

    [handler] = logger.handlers
    assert present == (handler is own)
    assert present != isinstance(handler.formatter, JsonFormatter)


@pytest.mark.parametrize("query", ["?%6bey=hunter2", "?a&hunter2", "?x=ro%255F7fGh2kLm_hunter2"])
def test_flask_run_logs_no_query(query: str) -> None:
    """Of a request line there is no query in the log: its names may be encoded."""
    record = logging.LogRecord(
        "werkzeug",
        logging.INFO,
        "x.py",
        1,
        '%s - "%s" %s',
        ("::1", f"GET /{query} HTTP/1.1", 200),
        None,
    )
    configure()
    [redacts] = logging.getLogger("werkzeug").filters

    assert redacts(record)
    assert '::1 - "GET /?… HTTP/1.1" 200' == record.getMessage()


def in_a_process(lines: str, stdout: int, **kwargs: Any) -> "subprocess.Popen[str]":
    """Run a Python program that logs to a standard output of its own.

    It imports the module without the rest of the application, to start faster.
    """
    program = f"""
import logging, os, sys, threading
from logs import access_lines, configure, drain, error_lines, write_access_line
configure()
LINE = {LINE!r}
{lines}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT / "app", stdout=stdout, text=True, **kwargs
    )


def test_access_line() -> None:
    """A request leaves one line of JSON, whatever is in it."""
    before = time.time()
    done = in_a_process("write_access_line(**{**LINE, 'method': 'A\"B'})", subprocess.PIPE)
    out, _ = done.communicate(timeout=60)

    assert out.endswith("\n")
    assert 1 == len(out.splitlines())
    line = json.loads(out)
    at = line.pop("at")
    expected = {**LINE, "bytes": LINE["length"], "method": "-", "route": "-"}
    del expected["length"]
    assert expected == line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    written = datetime.fromisoformat(at).timestamp()
    assert before - 0.001 <= written <= time.time()  # it is cut to milliseconds


def test_access_lines_do_not_wait_for_an_exit() -> None:
    """A line is there while the process goes on, and its fork writes its own."""
    lines = """
write_access_line(**LINE)
if os.fork() == 0:
    write_access_line(**{**LINE, "pid": 8})
    sys.exit()
os.wait()
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with in_a_process(lines, pipe, stdin=pipe) as process:
        assert process.stdout is not None

        assert {7, 8} == {json.loads(process.stdout.readline())["pid"] for _ in range(2)}
        process.communicate(timeout=60)


def test_access_lines_of_processes_do_not_mix() -> None:
    """All lines of processes that share a pipe arrive, each of them whole."""
    read, write = os.pipe()
    lines = "for _ in range(2000): write_access_line(**{**LINE, 'status': %d})"
    processes = [in_a_process(lines % status, write) for status in (200, 304)]
    os.close(write)
    with os.fdopen(read) as pipe:
        statuses = Counter(json.loads(line)["status"] for line in pipe)
    for process in processes:
        process.wait(60)

    assert {200: 2000, 304: 2000} == statuses


@pytest.mark.parametrize("lost", ["os.close(1)", "read, _ = os.pipe(); os.dup2(read, 1)"])
def test_nobody_can_read(lost: str) -> None:
    """A standard output that cannot be written to does no harm; what it lost is counted."""
    lines = f"""
{lost}
write_access_line(**LINE)
write_access_line(**LINE)
drain()
sys.exit(access_lines.lost)
"""
    process = in_a_process(lines, subprocess.DEVNULL)

    assert 2 == process.wait(60)


@pytest.mark.parametrize(
    ("line", "kind", "other"),
    [
        ("write_access_line(**LINE)", "access", "stderr"),
        ("logging.getLogger('app.x').error('x' * 100)", "error", "stdout"),
    ],
)
def test_nobody_reads(line: str, kind: str, other: str) -> None:
    """A pipe that is full holds up nobody: the lines beyond a bound are lost, and counted."""
    lines = f"""
for _ in range(20_000): {line}
sys.{other}.write(f"{{{kind}_lines.lost}}\\n")
sys.{other}.flush()
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with in_a_process(lines, pipe, stdin=pipe, stderr=pipe) as process:
        outputs = {"stdout": process.stdout, "stderr": process.stderr}
        told = outputs.pop(other)
        [unread] = outputs.values()
        assert told is not None
        assert unread is not None
        lost = int(told.readline())
        assert lost > 0
        for _ in range(20_000 - lost):
            json.loads(unread.readline())
        assert process.stderr is not None
        report = json.loads(process.stderr.readline())["message"]
        rest = process.communicate(timeout=60)

    assert f"Lost {lost} {kind} lines: not read, or the disk is full." == report
    assert ("", "") == rest


def test_what_was_written_makes_room() -> None:
    """Far more lines than may wait at once are all written, as long as somebody reads."""
    lines = """
for number in range(15_000):
    write_access_line(**{**LINE, "us": number})
    if number % 2_000 == 0: drain()
drain()
sys.exit(min(access_lines.lost, 100))
"""
    process = in_a_process(lines, subprocess.PIPE)
    out, _ = process.communicate(timeout=60)

    assert len(out) > 2_400_000
    assert 0 == process.returncode
    assert [*range(15_000)] == [json.loads(line)["us"] for line in out.splitlines()]


def test_a_full_disk_takes_a_part_of_a_line(tmp_path: Path) -> None:
    """What it takes of a line is no part of the next one, which begins on a line of its own."""
    lines = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
write_access_line(**LINE)
drain()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write_access_line(**{**LINE, "pid": 8})
drain()
sys.exit(access_lines.lost)
"""
    path = tmp_path / "out"
    with path.open("ab") as file:
        process = in_a_process(lines, file.fileno(), stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    part, whole = path.read_text().splitlines()

    assert (1, 100) == (process.returncode, len(part))
    assert 8 == json.loads(whole)["pid"]
    assert "Lost 1 access lines" in err


def test_another_process_makes_the_output_non_blocking() -> None:
    """A line that does not fit into the pipe waits, and is not lost."""
    lines = """
os.set_blocking(1, False)
for number in range(2_000): write_access_line(**{**LINE, "us": number})
print(access_lines.lost, file=sys.stderr, flush=True)
sys.stdin.read()
print(access_lines.lost, file=sys.stderr, flush=True)
"""
    pipe = subprocess.PIPE
    with in_a_process(lines, pipe, stdin=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        assert "0\n" == process.stderr.readline()
        time.sleep(0.2)  # seconds, in which the pipe is full
        out, err = process.communicate(timeout=60)

    assert "0\n" == err
    assert [*range(2_000)] == [json.loads(line)["us"] for line in out.splitlines()]


#: Refuses new threads, as a system that has none left does, and Python 3.12 at an exit.
REFUSE = """
def refuse(thread): raise RuntimeError("can't start new thread")
start, threading.Thread.start = threading.Thread.start, refuse
"""


def test_a_thread_is_not_to_be_had() -> None:
    """Where no thread can be started a line is written at once, and the next one tries again."""
    lines = f"""
{REFUSE}
write_access_line(**{{**LINE, "request_id": "x" * 10_000}})
threading.Thread.start = start
write_access_line(**{{**LINE, "pid": 8}})
sys.exit(access_lines.lost)
"""
    process = in_a_process(lines, subprocess.PIPE)
    out, _ = process.communicate(timeout=60)

    assert 0 == process.returncode
    assert [7, 8] == [json.loads(line)["pid"] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("output", "lost"),
    [("os.pipe()[1]", range(1, 101)), ("os.open('/dev/full', 1)", [101]), ("-1", [101])],
)
def test_nobody_reads_and_a_thread_is_not_to_be_had(output: str, lost: Iterable[int]) -> None:
    """Lines that do not fit then are lost and counted, and nothing waits for a reader."""
    lines = f"""
{REFUSE}
from logs import Lines
lines = Lines({output}, "lines")
for size in [1000] * 100 + [100_000]: lines.write("x" * size)
sys.exit(lines.lost)
"""
    process = in_a_process(lines, subprocess.DEVNULL)

    assert process.wait(60) in lost


def test_a_fork_while_the_thread_is_started() -> None:
    """A lock that is held at a fork does not stop the child."""
    lines = """
start = threading.Thread.start
def fork(thread):
    threading.Thread.start = start
    if os.fork() == 0:
        write_access_line(**LINE)
        drain()
        os._exit(0)
    os.wait()
    raise RuntimeError
threading.Thread.start = fork
write_access_line(**{**LINE, "pid": 8})
"""
    out, _ = in_a_process(lines, subprocess.PIPE).communicate(timeout=60)

    assert [7, 8] == [json.loads(line)["pid"] for line in out.splitlines()]


@pytest.mark.parametrize("sooner", [True, False])
def test_an_exit_writes_error_lines(*, sooner: bool) -> None:
    """A process that ends writes what was logged last, each kind of line to its own output.

    Also where no thread can be started any more, and the first line is logged only then.
    """
    lines = f"""
import atexit
log = logging.getLogger("app.x")
if {sooner}: log.error("sooner")
atexit.register(log.error, "later")
atexit.register(exec, {REFUSE!r}, globals())
write_access_line(**LINE)
"""
    pipe = subprocess.PIPE
    out, err = in_a_process(lines, pipe, stderr=pipe).communicate(timeout=60)

    assert 7 == json.loads(out)["pid"]
    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert ["sooner", "later"][not sooner :] == messages
