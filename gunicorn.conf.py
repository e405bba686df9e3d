"""How gunicorn serves Roster: ``gunicorn`` with no argument reads this file.

The master process must never import the application: what it holds, a HUP cannot replace. So
the settings, the log format and the metrics' board, files of the standard library alone, are run
here and not imported, anew at each HUP, and the store is prepared in a child process.
"""

import contextlib
import errno
import gc
import json
import multiprocessing
import os
import runpy
import sys
import time
from http import HTTPStatus
from pathlib import Path

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

_APP = Path(__file__).parent / "app"
_logs = runpy.run_path(str(_APP / "logs.py"))
_board = runpy.run_path(str(_APP / "metrics" / "board.py"))
_settings = runpy.run_path(str(_APP / "settings.py"))

try:
    settings = _settings["environment_settings"]()
except _settings["SettingsError"] as error:
    sys.exit(f"Roster cannot start with these settings:\n{error}")


class JsonLogger(Logger):
    """gunicorn's own messages as redacted JSON: it repeats malformed headers word for word."""

    def setup(self, cfg):
        """Take gunicorn's handlers and give them our format."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(_logs["JsonFormatter"]())
        _redirect(self.error_log.handlers, _logs["error_lines"])


def _redirect(handlers, error_lines):
    """Let `error_lines` write what `handlers` write to standard error; files stay as they are.

    gunicorn's own handler waits while nobody reads standard error, and its process with it.
    """
    for handler in handlers:
        stream = getattr(handler, "stream", None)
        if stream is not None and stream.fileno() == error_lines.fileno():
            handler.setStream(error_lines)


class PatientWorker(ThreadWorker):
    """A worker that lets new connections wait while it has no file descriptors for them.

    gunicorn's own accepts until it has none, and then ends, with every connection that it has.
    """

    #: Descriptors that must be free for a connection: its own, and those its request will open.
    spare = 8
    short = False

    def accept(self, listener):
        """Accept a connection if it can be served, else leave it for later or for others."""
        try:
            with contextlib.ExitStack() as free:
                for _ in range(self.spare):
                    free.callback(os.close, os.dup(listener.fileno()))
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            if not self.short:
                self.log.warning("No file descriptor is free: new connections wait.")
            self.short = True
            time.sleep(0.01)  # seconds; else the waiting connection would wake us without end
        else:
            if self.short:
                self.log.warning("File descriptors are free again.")
            self.short = False


def _refuse(connection, status, reason, _message):
    """Answer in OpenAI's words what the parser does not understand, or a worker's end cut off.

    gunicorn would answer in HTML. Whose client it is, nobody knows before the request is read.
    """
    ours = status == HTTPStatus.INTERNAL_SERVER_ERROR
    error = {
        "message": f"{reason}.",
        "type": "server_error" if ours else "invalid_request_error",
        "param": None,
        "code": None if ours else "invalid_request",
    }
    body = json.dumps({"error": error}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: private, no-cache",
        "X-Content-Type-Options: nosniff",
    )
    util.write_nonblock(connection, "\r\n".join((*head, "", body)).encode())


util.write_error = _refuse

wsgi_app = "wsgi:app"
bind = settings.bind
umask = 0o007  # a Unix socket for the owner and the group, such as nginx's
logger_class = JsonLogger
accesslog = None  # the access line is the application's own

worker_class = PatientWorker
workers = settings.workers
threads = settings.threads
preload_app = False  # with it, HUP would keep the old code
keepalive = 75  # seconds; longer than nginx keeps an idle upstream connection
timeout = 30  # seconds without a sign of life, until a worker is replaced
graceful_timeout = 30  # seconds for requests in hand when a worker is told to go

# gunicorn believes SCRIPT_NAME and PATH_INFO headers from the loopback and from Unix sockets:
# with them, a request for a public path reaches the admin routes past nginx's rules.
forwarder_headers = ""
header_map = "refuse"
control_socket_disable = True  # it would be opened in $HOME
limit_request_line = 8190  # bytes


def on_starting(server):
    """Prepare the store and make the first key, once, before the workers start."""
    on_reload(server)
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_prepare, args=(sender,))
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(child.exitcode)
    server.roster_facts = receiver.recv()


def on_reload(server):
    """Warn of variables that are no setting."""
    for sentence in _settings["unknown_variables"](os.environ):
        server.log.warning("%s", sentence)


def _prepare(sender):
    from app.catalog.errors import StoreUnavailable  # noqa: PLC0415 - in the child only
    from app.logs import drain  # noqa: PLC0415
    from app.services import services  # noqa: PLC0415
    from wsgi import app  # noqa: PLC0415

    with app.app_context():
        try:
            sender.send(services().start())
        except StoreUnavailable as error:
            sys.exit(f"Roster cannot start: {error.reason}")
        finally:
            drain()  # multiprocessing ends this process by os._exit


def when_ready(server):
    """Print the start block, once the address is known and taken."""
    block = _logs["start_block"](server.roster_facts, str(server.LISTENERS[0]))
    _logs["access_lines"].write(block)  # after a USR2 the output may be full already


def pre_fork(server, worker):
    """Give a worker a page of the memory that all workers count in."""
    if not hasattr(server, "roster_memory"):
        server.roster_memory = _board["new_memory"]()
    worker.roster_memory = server.roster_memory
    worker.roster_page = _board["Board"](server.roster_memory).take()


def child_exit(server, worker):
    """Leave the page of a worker that has ended to the next one, which counts on from there."""
    if worker.roster_page is not None:
        _board["Board"](server.roster_memory).leave(worker.roster_page)


def post_worker_init(worker):
    """Load the first image before the first request, if the store is there, and join the count."""
    from app.catalog.errors import StoreUnavailable  # noqa: PLC0415 - in the worker only
    from app.logs import error_lines  # noqa: PLC0415
    from app.services import services  # noqa: PLC0415

    _redirect(worker.log.error_log.handlers, error_lines)  # the metric counts gunicorn's lines too
    gc.disable()  # it would walk through every entry again and again while they are loaded
    # What is wrong is in the log. A request tries again once a second; until then all get a 503.
    with worker.wsgi.app_context(), contextlib.suppress(StoreUnavailable):
        services().warm_up()
    with worker.wsgi.app_context():
        metrics = services().metrics
    if metrics is not None and worker.roster_page is not None:
        metrics.share(worker.roster_memory, worker.roster_page)
    gc.freeze()  # what is there now stays
    gc.enable()
