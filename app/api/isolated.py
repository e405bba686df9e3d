"""Requests that a child process answers, because they would take a worker's interpreter for long.

The child answers the same request with the same view, in an application of its own. Request and
answer are in one temporary file, so a worker never has them in its memory. The worker checks the
key before and writes the access line after; of the child only log lines are seen.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from flask import Flask, Response
from werkzeug.wsgi import wrap_file

from app.api.context import request
from app.api.http import PIECE
from app.catalog.errors import ChangeUncertain, RosterError, StoreUnavailable
from app.logs import drain
from app.settings import Settings
from app.store.schema import HEAD

#: The most bytes of a file, and the most entries, for which a worker starts no child process.
MAX_BYTES_HERE = 16 * 1024  # 16 KiB
MAX_ENTRIES_HERE = 250
#: How long a child may take, in seconds.
TIMEOUT = 120

# A new interpreter, because a fork would have the locks of other threads.
_PROGRAM = """import sys
sys.path[:] = {path!r}
from app import create_app
from app.api.isolated import run
run(create_app)"""
#: Where the environment of a request has the file, in the child alone.
_FILE = "roster.file"
#: Held while there is a child, so that the memory of a worker's children is that of one.
_running = threading.Lock()


class Busy(RosterError):
    """The worker has a child process already."""

    code = "unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Another import, export, edit or undo of many entries is under way. Try again."
        )


class NotStarted(StoreUnavailable):
    """There is no child process, no temporary file, or no answer to what changes nothing."""

    sentence = "There is no room for this just now, and nothing was changed. Try again."


class Interrupted(ChangeUncertain):
    """The child process was killed, or did not end in time."""

    sentence = (
        "This was interrupted, and a change may have happened. Check before you send it again."
    )


def is_isolated() -> bool:
    """Return whether this is the child process."""
    return _FILE in request.environ


@contextmanager
def spool(pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Give a temporary file with `pieces`, positioned at its start; in the child the one it got.

    Raises `NotStarted` if there is no room for it.
    """
    if _FILE in request.environ:
        yield request.environ[_FILE]
        return
    try:
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.writelines(pieces)
            file.seek(0)
            opened = stack.pop_all()
    except OSError as error:
        raise NotStarted(f"A temporary file cannot be written: {error}") from error
    with opened:
        yield file


def answer_isolated(file: IO[bytes], *, changes: bool) -> Response:
    """Return the answer of a child process to this request, whose body is in `file`.

    `changes` says whether it may change anything. Raises `Busy`, `NotStarted` and `Interrupted`.
    """
    if not _running.acquire(blocking=False):
        raise Busy
    try:
        _run_child(file, changes=changes)
    finally:
        _running.release()
    reply = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)  # gunicorn sends from its position
    reply.seek(0)
    status, headers = pickle.load(reply)  # noqa: S301 - of our own child
    pieces = wrap_file(request.environ, reply, PIECE)
    return Response(pieces, status, headers, direct_passthrough=True)


def _run_child(file: IO[bytes], *, changes: bool) -> None:
    environ = {name: text for name, text in request.environ.items() if isinstance(text, str)}
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(os.fstat(file.fileno()).st_size)
    environ["HTTP_X_REQUEST_ID"] = request.context.request_id
    given = pickle.dumps((HEAD, request.context.services.settings, environ))
    command = [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path), str(file.fileno())]
    # The child inherits the mask: a stop lets the worker, and so its child, finish.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        child = subprocess.Popen(  # noqa: S603
            command,
            bufsize=0,
            stdin=subprocess.PIPE,  # stays open as long as this process lives
            stdout=subprocess.DEVNULL,  # access lines
            pass_fds=[file.fileno()],
        )
    except OSError as error:
        raise NotStarted(f"There is no child process: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with child:
        assert child.stdin is not None, "it is a pipe"  # noqa: S101
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            child.stdin.write(given)
            child.wait(TIMEOUT)
        is_late = child.poll() is None
        child.kill()
    if child.returncode:
        end = f"took more than {TIMEOUT} s" if is_late else f"ended with {child.returncode}"
        reason = f"The child process {child.pid} of {request.context.route} {end}."
        raise Interrupted(reason) if changes else NotStarted(reason)


def run(create_app: Callable[[Settings], Flask]) -> None:
    """Answer the request of standard input, in a child process."""
    head, settings, environ = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our own parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):  # without memory, the kernel is to end this process and not a worker
        Path("/proc/self/oom_score_adj").write_text("500")
    if head != HEAD:
        sys.exit("The program on the disk is not the one that serves: restart the server.")
    # As it is set, it would visit every entry many times. Off, 100,000 entries take 70 MiB more.
    gc.set_threshold(100_000, 20, 100)
    status, headers = "", list[tuple[str, str]]()

    def start_response(line: str, fields: list[tuple[str, str]], *_: object) -> Any:
        nonlocal status, headers
        status, headers = line, fields

    descriptor = int(sys.argv[1])
    with open(descriptor, "r+b") as file:
        given = {**environ, "wsgi.input": file, _FILE: file}
        pieces = [*create_app(settings)(given, start_response)]
        file.seek(0)
        file.truncate()
        file.writelines((pickle.dumps((status, headers)), *pieces))
    # At an exit SQLite's file would be closed, which waits for writers: see `SQLite.close`. The
    # parent has it open, so nothing is left to be done there.
    drain()
    os._exit(0)


def _end_with_parent() -> None:
    """End this process when the parent has ended, which closes standard input."""
    os.read(0, 1)
    os._exit(1)
