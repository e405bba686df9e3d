"""How gunicorn serves Roster: ``gunicorn`` with no argument reads this file.

The master process must never import the application: a HUP would not replace it. So the settings,
the log format, the shared pages of the metrics and the generations of workers, which are files of
the standard library alone, are not imported here but run, again at each HUP, and a child process
prepares the store.
"""

import contextlib
import functools
import gc
import json
import logging
import multiprocessing
import os
import re
import resource
import runpy
import signal
import stat
import sys
import threading
import time
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from random import getrandbits

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.message import Request
from gunicorn.http.parser import Parser, RequestParser

_fork = multiprocessing.get_context("fork")
_APP = Path(__file__).parent / "app"
_logs = runpy.run_path(str(_APP / "logs.py"))
_shared_pages = runpy.run_path(str(_APP / "metrics" / "shared_pages.py"))
_generations = runpy.run_path(str(_APP / "generations.py"))
_worker = runpy.run_path(str(_APP / "worker.py"))
_settings = runpy.run_path(str(_APP / "settings.py"))

try:
    settings = _settings["environment_settings"]()
except _settings["SettingsError"] as error:
    sys.exit(f"Roster cannot start with these settings:\n{error}")


#: What helps where a socket, or a port, cannot be bound.
_IN_FOLDER = "Make its folder, or set ROSTER_BIND to a path in a folder of this user."
_AT_PORT = (
    "Stop what listens there, or set ROSTER_BIND to another one: an address of this host, and a "
    "port from 1024 on unless root starts it."
)


class JsonLogger(Logger):
    """gunicorn's own messages as redacted JSON."""

    def setup(self, cfg):
        """Give our format to gunicorn's handlers."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(_logs["JsonFormatter"]())
        _redirect(self.error_log.handlers, _logs["error_lines"])

    #: Why the address cannot be bound, as gunicorn logged it at the last try.
    bind_error = ""

    def error(self, msg, *args, **kwargs):
        """Log an error; of an address that cannot be bound, once, with the reason and what to do.

        gunicorn tries five times, a second apart, and says it twice each time.
        """
        if msg in ("Connection in use: %s", "Invalid address: %s"):
            return
        if msg.startswith("connection to ") and " failed: " in msg:
            reason = msg.partition(" failed: ")[2]
            if reason == self.bind_error:
                return
            self.bind_error = reason
        if msg == "Can't connect to %s":
            address = re.sub(r"^\('(.*)', (\d+)\)$", r"\1:\2", str(args[0]))
            remedy = _IN_FOLDER if address == args[0] else _AT_PORT
            msg, args = "Cannot listen at %s: %s. %s", (address, self.bind_error, remedy)
        super().error(msg, *args, **kwargs)


def _redirect(handlers, error_lines):
    """Let `error_lines` write what `handlers` write to standard error.

    While nobody reads standard error, gunicorn's own handler blocks its process.
    """
    for handler in handlers:
        stream = getattr(handler, "stream", None)
        if stream is not None and stream.fileno() == error_lines.fileno():
            handler.setStream(error_lines)


#: For the request that this thread refuses: `request_id`, and `request`, its name in the log.
_refused = threading.local()


class RefusalFormatter(_logs["JsonFormatter"]):
    """Our format for gunicorn's lines in a worker.

    gunicorn quotes what it cannot parse, and a split, folded or encoded key in that cannot be
    recognized. So a line about a refusal has its kind and its request id alone.
    """

    def format(self, record):
        """Return the line, without its end."""
        record.request_id = getattr(_refused, "request_id", None)
        if record.request_id is not None:
            # At the level error gunicorn logs what it answers with a 500.
            verb = "Failed to serve" if record.levelno == logging.ERROR else "Refused"
            record.msg, record.args = f"{verb} {_refused.request}", ()
        if isinstance(record.args, tuple):  # other exceptions quote too, at the level debug
            record.args = tuple(
                type(x).__name__ if isinstance(x, Exception) else x for x in record.args
            )
        return super().format(record)


class CountedRequest(Request):
    """A request of which every header counts.

    gunicorn counts none that `header_map` drops: 60,000 in one request took 350 ms to read.
    """

    def parse_headers(self, data, from_trailer=False):  # noqa: FBT002 - gunicorn's signature
        """Return the headers in `data`, unless there are too many lines."""
        if data.count(b"\r\n") >= self.limit_request_fields:
            raise LimitRequestHeaders("limit request headers fields")
        return super().parse_headers(data, from_trailer)

    def _peer_is_trusted_proxy(self):
        """Return whether the peer may say that its clients use https.

        It is the same for all requests of a connection, which have one `unreader`.
        """
        connection = self.unreader
        if not hasattr(connection, "roster_trusts_peer"):
            connection.roster_trusts_peer = super()._peer_is_trusted_proxy()
        return connection.roster_trusts_peer


def _finish_body(parser, deadline=None):
    """Read what is left of a body; return whether that was all of it.

    What the application has not read, because the key is wrong for example, gunicorn reads after
    the answer, for 5 seconds at most. Beyond 64 KiB it would close the connection: while nginx
    still sends an import, that is a 502 in place of the answer. Most requests have no body, and
    gunicorn asks twice.
    """
    body = parser.mesg and parser.mesg.body
    if body and not body.failed and getattr(body.reader, "length", None) == 0:
        return True
    return Parser.finish_body(parser, deadline, 64 << 20)


RequestParser.mesg_class = CountedRequest
RequestParser.finish_body = _finish_body


class ReplaceableWorker(_worker["LeaderWorker"]):
    """A worker that serves until the workers of a newer generation do.

    gunicorn's reload stops the old workers as soon as the new ones are forked: no worker would
    accept connections until these have loaded the application and the catalogue. `on_reload`
    prevents that, and the old workers end by themselves.
    """

    #: Seconds until gunicorn starts another worker in place of one that could not start.
    retry_after = 5

    def init_signals(self):
        """Set gunicorn's handlers, then receive the signals that `pre_fork` has blocked."""
        super().init_signals()
        _unblock()

    def handle_exit(self, sig, frame):
        """Stop gracefully; at once while no connection was accepted."""
        self._leave()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig, frame):  # noqa: ARG002 - gunicorn's signature
        """Stop without waiting for requests; at once while no connection was accepted.

        It exits from the event loop, where this thread holds no lock. gunicorn's own handler shuts
        the thread pool down inside the signal handler. That waits without end for a lock which
        this thread holds while it gives a request to the pool. It also calls the hook
        `worker_int`, which this file does not define.
        """
        self._leave()
        self.alive = False
        self.quits = True

    def _leave(self):
        self.roster_generations.stop(self.roster_slot)
        if not self.booted:
            self.alive = False
            sys.exit(0)

    def init_process(self):
        """Start and serve; where this worker cannot start and others serve, wait and end.

        gunicorn then starts another one. It would stop the whole server because of a worker that
        ends at once.
        """
        try:
            super().init_process()
        except (Exception, SystemExit):
            others_serve = self.roster_generations.any_serves(self.roster_generation)
            if self.booted or not self.alive or not others_serve:
                raise
            self.log.exception(
                "This worker cannot start. Others serve; the next try is in %s seconds.",
                self.retry_after,
            )
            time.sleep(self.retry_after)
            sys.exit(1)  # another code than those that stop the server

    def notify(self):
        """Publish that this worker accepts connections, or stop if newer workers accept them.

        gunicorn calls this first when the worker begins to accept, then once a second.
        """
        super().notify()
        if self.alive and self.roster_generations.is_replaced(self.roster_generation):
            self.log.info("Newer workers serve: this one stops.")
            self.handle_exit(signal.SIGTERM, None)
        if self.alive:
            self.roster_generations.serve(self.roster_slot, self.roster_generation)
        if not self.alive:  # a signal has come in between, or it is gunicorn's `max_requests`
            self.roster_generations.stop(self.roster_slot)

    def handle_error(self, req, client, addr, exc):
        """Log and refuse what cannot be answered, both with the same new request id."""
        _refused.request_id = f"req_{getrandbits(96):024x}"  # as app.api.context makes them
        client_ip = f" from {addr[0]}" if isinstance(addr, tuple) else ""  # a Unix socket has none
        _refused.request = f"a request{client_ip}: {type(exc).__name__}"
        try:
            super().handle_error(req, client, addr, exc)
        finally:
            del _refused.request_id, _refused.request


def _refuse(connection, status, reason, _message):
    """Answer in OpenAI's dialect what cannot be parsed, or was cut off when a worker ended.

    gunicorn would answer in HTML. The dialect of the client is not known before the request is
    read.
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
        f"x-request-id: {_refused.request_id}",
        f"request-id: {_refused.request_id}",
    )
    util.write_nonblock(connection, "\r\n".join((*head, "", body)).encode())


util.write_error = _refuse


@functools.lru_cache(maxsize=1)
def _date(second):
    return formatdate(second, usegmt=True)


def _http_date(timestamp=None):
    """Return a date for a header; it is made once a second, and not for each answer."""
    return _date(int(time.time() if timestamp is None else timestamp))


util.http_date = _http_date

#: File descriptors that a worker needs beside its connections. It has 17 for itself; a thread has
#: up to 6 for the database and for a lock, and 1 while it waits for a request.
_own_descriptors = 24 + 8 * settings.threads
_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
_free = 1000 if _limit == resource.RLIM_INFINITY else _limit - _own_descriptors
if _free <= settings.threads:
    sys.exit(
        f"Roster cannot start: a process may open {_limit} files, and {settings.threads} threads "
        f"need {_own_descriptors + settings.threads + 1}: raise the limit (ulimit -n)."
    )

_stop_signals = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_unblock = functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, _stop_signals)

wsgi_app = "wsgi:app"
bind = settings.bind
umask = 0o007  # a Unix socket for the owner and the group, such as nginx's
logger_class = JsonLogger
accesslog = None  # the access line is the application's own

worker_class = ReplaceableWorker
workers = settings.workers
threads = settings.threads
# A worker with so many lets new connections wait. It would end, with all that it has, if it had no
# descriptor for a new one.
worker_connections = min(1000, _free)
preload_app = False  # with it, HUP would keep the old code
keepalive = settings.keepalive
timeout = 30  # seconds without a sign of life, until a worker is replaced
graceful_timeout = 30  # seconds for requests in hand when a worker stops

# gunicorn trusts SCRIPT_NAME and PATH_INFO headers from the loopback and from Unix sockets. With
# them a request for a public path reaches the admin routes in spite of nginx's rules.
forwarder_headers = ""
header_map = "drop"  # a name with an underscore, as nginx does: X_Api_Key is not X-Api-Key
control_socket_disable = True  # it would be opened in $HOME
limit_request_line = 8190  # bytes
limit_request_fields = 64  # SDKs behind proxies send 40; reading 100 of 8 KiB takes 65 ms, 64 27


def on_starting(server):
    """Prepare the store and make the first key, once, before the workers start."""
    _warn_of_unknown_variables(server)
    receiver, sender = _fork.Pipe(duplex=False)
    child = _fork.Process(target=_prepare, args=(sender,))
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(child.exitcode)
    server.roster_facts = receiver.recv()
    server.roster_memory = _shared_pages["new_memory"]()
    server.roster_generations = _generations["new_memory"]()
    os.register_at_fork(after_in_parent=_unblock)  # what `pre_fork` blocked, if fork fails too


def on_reload(server):
    """Let the old workers serve until the new ones do: see `ReplaceableWorker`.

    gunicorn has set `num_workers` to the number in the configuration, and starts the new workers
    next. Until an old worker has ended, the number includes it.
    """
    _warn_of_unknown_variables(server)
    server.num_workers += len(server.WORKERS)
    generations = _generations_of(server)
    generations.begin(server.cfg.workers)
    serving = 0
    for pid, worker in list(server.WORKERS.items()):  # the oldest first
        # gunicorn would wait here until all workers of this age and below have ended, and handle
        # no signal meanwhile. The new workers get whole numbers above this one.
        worker.age = server.worker_age + 0.5
        if generations.serves(worker.roster_slot) and serving < server.cfg.workers:
            serving += 1
        else:  # else each reload would add workers while one of the new ones does not serve
            server.kill_worker(pid, signal.SIGTERM)


def _generations_of(server):
    """Return the generations of a server; an older program may have started it."""
    if not hasattr(server, "roster_connections"):
        server.roster_connections = _generations["new_connections"]()
    return _generations["Generations"](server.roster_generations, server.roster_connections)


def _warn_of_unknown_variables(server):
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
            services().store.close()
        except StoreUnavailable as error:
            sys.exit(f"Roster cannot start: {error.reason}")
        finally:
            drain()  # multiprocessing ends this process by os._exit


def on_exit(server):
    """Write SQLite's write-ahead log into the database if a killed worker left it."""
    path = settings.database_path
    if path is not None and path.with_name(f"{path.name}-wal").exists():
        child = _fork.Process(target=_close)
        child.start()
        child.join(5)  # seconds; a worker may have had 30 of systemd's 40 already
        child.kill()


def _close():
    from app.catalog.errors import StoreUnavailable  # noqa: PLC0415 - in the child only
    from app.logs import drain  # noqa: PLC0415
    from app.services import services  # noqa: PLC0415
    from wsgi import app  # noqa: PLC0415

    try:
        with app.app_context(), contextlib.suppress(StoreUnavailable):
            services().store.schema()  # `open` would upgrade it to what the code on the disk has
            services().store.close()
    finally:
        drain()  # multiprocessing ends this process by os._exit


def when_ready(server):
    """Print the start block, now that the address is bound, and who may connect to a socket."""
    for listener in server.LISTENERS:
        name = listener.getsockname()
        if isinstance(name, str) and os.path.exists(name):  # noqa: PTH110
            found = Path(name).stat()
            if not found.st_mode & stat.S_IWOTH:
                server.log.info(
                    "At %s, only user %s and group %s can connect: nginx's user must be one of "
                    "them, or nginx answers 502 without a word in its error log.",
                    name,
                    found.st_uid,
                    found.st_gid,
                )
    block = _logs["start_block"](server.roster_facts, str(server.LISTENERS[0]))
    _logs["access_lines"].write(block)  # after a USR2 the output may be full already


def pre_fork(server, worker):
    """Give a worker its page of the shared memory for metrics, and its slot.

    Block the signals that stop it until `init_signals` has set their handlers: Python drops a
    signal that arrives while it forks, and gunicorn sends each only once.
    """
    worker.roster_generations = _generations_of(server)
    worker.roster_generation = worker.roster_generations.newest
    worker.roster_slot = worker.roster_generations.take()
    worker.roster_memory = server.roster_memory
    worker.roster_page = _shared_pages["SharedPages"](server.roster_memory).take()
    signal.pthread_sigmask(signal.SIG_BLOCK, _stop_signals)


def child_exit(server, worker):
    """Free the slot of a worker that has ended, and leave its page to the next worker.

    One that a reload has replaced gets no successor.
    """
    worker.roster_generations.free(worker.roster_slot)
    if worker.roster_generation != worker.roster_generations.newest and server.num_workers > 1:
        server.num_workers -= 1
    if worker.roster_page is not None:
        _shared_pages["SharedPages"](server.roster_memory).release(worker.roster_page)


def post_worker_init(worker):
    """Load the first snapshot before the first request, and count in the shared memory.

    If the store cannot be read, a worker waits for it as long as others serve: their snapshot is
    not older than that of a standby. If none serves, it accepts connections and answers from the
    snapshot that it has, or with a 503; and the list of a snapshot is made meanwhile.
    """
    from app.logs import error_lines  # noqa: PLC0415 - in the worker only
    from app.services import services  # noqa: PLC0415

    handlers = worker.log.error_log.handlers
    for handler in handlers:  # not by `JsonLogger`, which a HUP does not replace
        handler.setFormatter(RefusalFormatter())
    _redirect(handlers, error_lines)  # the metric counts gunicorn's lines too
    with worker.wsgi.app_context():
        services().store.call_before_waiting(worker.follow)
        while worker.ppid == os.getppid():  # else the master has ended, and frees no slot
            if _load(worker) or not worker.roster_generations.any_serves(worker.roster_generation):
                break
            time.sleep(1)  # second; the catalogue does not try more often
        metrics = services().metrics
    if metrics is not None and worker.roster_page is not None:
        metrics.share(worker.roster_memory, worker.roster_page)


def _load(worker):
    """Load the first snapshot; return whether it is the current one.

    While others serve, nobody waits for this worker, and it makes the list before it accepts
    connections. The log has what is wrong with the store.
    """
    from app.catalog.errors import StoreUnavailable  # noqa: PLC0415
    from app.services import services  # noqa: PLC0415

    gc.disable()  # it would visit every entry many times during the load
    try:
        services().warm_up(wait=worker.roster_generations.any_serves(worker.roster_generation))
    except StoreUnavailable:
        return False
    else:
        gc.freeze()  # not what a failed load has left
    finally:
        gc.enable()
    return services().catalog.outage is None
