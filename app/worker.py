"""The worker of gunicorn: one of its threads leads, and workers share connections evenly.

gunicorn's own worker with threads receives events in its main thread and gives each request to
another thread. To give a request away and to take the connection back costs as much as the answer.
Here one thread of the pool, the leader, receives events and answers the requests itself, one after
the other. Before it waits for a client or for the database another thread becomes the leader, and
so it does when one request takes long. This is the pattern "leader/followers".

It needs nothing but gunicorn, and imports nothing of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import os
import select
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache, partial
from typing import Any, cast

from gunicorn.http import wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

#: After how many seconds in one request another thread becomes the leader.
LONG = 0.005
#: How many connections are accepted at a time.
MAX_ACCEPTED = 16
#: For how many seconds a new connection is left to workers that hold fewer.
PAUSE = 0.001
#: For how many seconds the end of a connection is awaited from the client.
LINGER = 2.0
#: How many bytes it may still send meanwhile.
MAX_DRAINED = 64 << 10


#: What gunicorn takes as the result of a request: whether its connection stays open.
_RESULTS: dict[bool, Future[bool]] = {True: Future(), False: Future()}
for _stays, _result in _RESULTS.items():
    _result.set_result(_stays)


class Client(socket.socket):
    """The socket of a client; it calls `before_waiting` before it waits for the client.

    The kernel gets a timeout only for a wait: gunicorn sets one three times in each request.
    """

    __slots__ = ("_before_waiting", "_patience")

    def __init__(self, accepted: socket.socket, before_waiting: Callable[[], None]) -> None:
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, accepted.detach())
        super().settimeout(None)
        self._before_waiting = before_waiting
        self._patience: float | None = None

    def gettimeout(self) -> float | None:
        """Return how many seconds to wait for the client, None for ever."""
        return self._patience

    def settimeout(self, value: float | None, /) -> None:
        """Set how many seconds to wait for the client."""
        self._patience = value

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the signature of `socket`
        """Set whether to wait for the client."""
        self._patience = None if flag else 0.0

    def _wait(self, call: Callable[..., Any], *args: Any) -> Any:
        self._before_waiting()
        super().settimeout(self._patience)
        try:
            return call(*args)
        finally:
            super().settimeout(None)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return what the client has sent; wait for it if there is nothing yet."""
        try:
            return super().recv(bufsize, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            if self._patience == 0:
                raise
        return cast("bytes", self._wait(super().recv, bufsize, flags))

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of `data`; wait where the client does not take it at once."""
        try:
            sent = super().send(data, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._wait(super().sendall, memoryview(data)[sent:], flags)

    def send_together(self, pieces: Sequence[bytes]) -> None:
        """Send all `pieces` as `sendall` does, by one call where the client takes them at once."""
        try:
            sent = super().sendmsg(pieces, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        for piece in pieces:
            if sent < len(piece):
                self.sendall(memoryview(piece)[sent:])
            sent = max(0, sent - len(piece))


class _Pieces(list[bytes]):
    """In place of a socket: what would be sent."""

    sendall = list.append


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no types
    """A response whose head is sent together with the beginning of its body."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """Send a piece of the body, and before the first one the head."""
        client = self.sock
        if self.headers_sent or not isinstance(client, Client):  # with TLS it is another
            super().write(arg)
            return
        pieces = self.sock = _Pieces()
        try:
            super().write(arg)
        finally:
            self.sock = client
            client.send_together(pieces)


class LeaderWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker of which one thread at a time receives events and answers requests.

    `roster_generations` and `roster_slot` are set before it starts: see ``app.generations``.
    """

    roster_generations: Any
    roster_slot: int
    #: With more connections than these at the poller, one ends with its answer.
    max_keepalived: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Protects `_leader` and `_request`.
        self._lock = threading.Lock()
        #: The identity of the leader; None while the main thread handles connections.
        self._leader: object | None = None
        #: The connection that the leader is answering, whether it is at the poller, and the thread
        #: of the leader; None while that receives events.
        self._request: tuple[TConn, bool, int] | None = None
        #: Connections of which the next request was received with the one before it.
        self._ready: deque[TConn] = deque()
        #: The last call of `_serve`, which may wait for a thread.
        self._call: Future[None]
        #: What ended it, if it has failed.
        self._failure: BaseException | None = None
        #: Whether the leader is to end, and to let the main thread handle connections.
        self._is_wanted = False
        #: Whether the next request has to wake the main thread.
        self._is_asleep = False
        #: Whether to end without waiting for requests.
        self.quits = False
        #: Nothing is accepted before this time of the monotonic clock.
        self._accept_from = 0.0
        #: What other workers held when a connection was left to them.
        self._left_at: list[int] | None = None
        #: How many more connections to accept whatever others hold.
        self._unshared = 0
        self._most_keepalived = self.max_keepalived
        self._has_surplus = False
        #: How many more connections to end, for others to accept their clients.
        self._surplus = 0

    # In the main thread.

    def init_process(self) -> None:
        """Start with settings that are attributes: gunicorn reads 20 of them in each request.

        To find them where they are takes a twelfth of an answer.
        """
        self.cfg.__dict__.update({name: each.get() for name, each in self.cfg.settings.items()})
        # gunicorn makes one in each request, which takes a thirtieth of an answer.
        wsgi.WSGIErrorsWrapper = cache(wsgi.WSGIErrorsWrapper)
        wsgi.Response = Response
        super().init_process()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Let threads of the pool serve for `timeout` seconds, or until the worker is stopped."""
        self._shed()
        until, alive = time.monotonic() + timeout, self.alive
        self._is_wanted = False
        self._promote()
        try:
            while self._leader is not None:
                left = until - time.monotonic()
                if left <= 0 or self.alive != alive or self.quits:
                    self._ask_back()
                self._watch(max(left, LONG))
        finally:
            if self._leader is not None:
                self._ask_back()
        if self._failure is not None:
            raise self._failure
        if self.quits:
            sys.exit(0)

    def _ask_back(self) -> None:
        if self._call.cancel():  # no thread of the pool was free
            self._leader = None
        elif not self._is_wanted:
            self._is_wanted = True
            self.method_queue.defer(lambda: None)  # an event

    def _watch(self, patience: float) -> None:
        """Sleep for `patience` seconds at most; replace a leader that answers for long."""
        self._is_asleep = True  # set first: a request that begins now wakes this thread
        request = self._request
        if request is not None:
            self._is_asleep, patience = False, LONG
        if select.select([self.PIPE[0]], [], [], patience)[0]:
            os.read(self.PIPE[0], 4096)
        with self._lock:
            if request is not None and self._request is request:
                self._demote(request)
                if not self._is_wanted:
                    self._promote()

    # In a thread of the pool.

    def follow(self) -> None:
        """Make another thread the leader if it is this one, which is about to wait."""
        with self._lock:
            request = self._request
            if request is not None and request[-1] == threading.get_ident():
                self._demote(request)
                self._promote()

    def _promote(self) -> None:
        self._leader = leader = object()
        self._call = self.tpool.submit(self._serve, leader)

    def _serve(self, leader: object) -> None:
        """Receive events and answer requests while this thread is the leader."""
        try:
            while self._dispatch(leader):
                pass
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error
        with self._lock:
            if self._leader is not leader:
                return
            self._leader = None
        os.write(self.PIPE[1], b"\0")  # wakes the main thread, as a signal does

    def _dispatch(self, leader: object) -> bool:
        """Handle the next events; return whether this thread goes on as the leader.

        No callback of `method_queue` answers a request: gunicorn runs several of them in a row,
        and after an answer the thread may not be the leader.
        """
        now = time.monotonic()
        self.roster_generations.hold(self.roster_slot, self.nr_conns, now)
        left = self._accept_from - now
        may_accept = self.alive and left <= 0 and self.nr_conns < self.worker_connections
        self.set_accept_enabled(may_accept)
        for key, _ in self.poller.select(0 if self._ready else max(left, 0) or None):
            key.data(key.fileobj)
            if self._leader is not leader or self._is_wanted:
                return False
        if self._ready:
            self._answer(self._ready.popleft(), at_poller=False)
        return self._leader is leader and bool(self.alive)

    def accept(self, listener: Any) -> None:
        """Accept some connections, or leave them for a moment to workers that hold fewer.

        Of as many as gunicorn accepts at a time, one, the last of many would wait for long.
        """
        now = time.monotonic()
        for _ in range(MAX_ACCEPTED):
            held = self.nr_conns
            if held >= self.worker_connections or self._leaves(now):
                return
            super().accept(listener)
            if self.nr_conns == held:
                return
            self.roster_generations.hold(self.roster_slot, self.nr_conns, now)

    def _leaves(self, now: float) -> bool:
        """Return whether to leave the next connection to others."""
        if self._unshared:
            self._unshared -= 1
            return False
        others = self.roster_generations.others(self.roster_slot, now)
        if others and self.nr_conns > min(others) + self.nr_conns // 8:
            if others != self._left_at:
                self._left_at, self._accept_from = others, now + PAUSE
                self.set_accept_enabled(False)
                return True
            # Nobody has taken it. If many come at once, the last would wait for too long.
            self._unshared = self.nr_conns // 4
        self._left_at = None
        return False

    def _shed(self) -> None:
        """Let connections end with their next answer if this worker has long had too many.

        Their clients connect again, and other workers accept them.
        """
        now = time.monotonic()
        others = self.roster_generations.others(self.roster_slot, now)
        share = (sum(others) + self.nr_conns) // (len(others) + 1)
        had_surplus, self._has_surplus = self._has_surplus, self.nr_conns > share + share // 8 + 2
        sheds = had_surplus and self._has_surplus
        self._surplus = self.nr_conns - share if sheds else 0
        self.max_keepalived = share if sheds else self._most_keepalived

    def enqueue_req(self, conn: TConn) -> None:
        """Answer the next request on `conn`; await it at the poller if the connection is new."""
        if conn.initialized or conn.data_ready:
            self._answer(conn, at_poller=False)
            return
        conn.sock = Client(conn.sock, self.follow)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        ready = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, ready)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:  # noqa: ARG002
        """Answer the next request on a connection, which stays at the poller meanwhile."""
        self._answer(conn, at_poller=True)

    def _answer(self, conn: TConn, *, at_poller: bool) -> None:
        self._request = request = (conn, at_poller, threading.get_ident())
        if self._is_asleep:
            self._is_asleep = False
            os.write(self.PIPE[1], b"\0")
        stays = bool(self.handle(conn))
        with self._lock:
            leads = self._request is request
            if leads:
                self._request = None
        if not leads:
            self.method_queue.defer(self.finish_request, conn, _RESULTS[stays])
        elif not at_poller:
            self.finish_request(conn, _RESULTS[stays])
        elif stays and not conn.parser.unreader.buf.getvalue():
            conn.set_timeout()
        else:
            self._remove(conn)
            self.finish_request(conn, _RESULTS[stays])

    def _remove(self, conn: TConn) -> None:
        """Remove a connection from the poller."""
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)

    def _demote(self, request: tuple[TConn, bool, int]) -> None:
        """Let the leader, which answers `request`, lead no more; the caller holds the lock."""
        conn, at_poller, _ = request
        if at_poller:
            self._remove(conn)
        self._request = self._leader = None

    def finish_request(self, conn: TConn, fs: Any) -> None:
        """Await the next request at the poller, or the end of a connection that is to end.

        gunicorn would wait for the client in this thread.
        """
        if fs.result():
            if conn.parser.unreader.buf.getvalue():  # the next request is there already
                self._ready.append(conn)
            else:
                super().finish_request(conn, fs)
            return
        self._surplus -= 1
        if self._surplus == 0:  # without other workers, the clients have come back to this one
            self.max_keepalived = self._most_keepalived
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.settimeout(0)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):
            self.nr_conns -= 1
            conn.close()
            return
        conn.drained, conn.timeout = 0, time.monotonic() + LINGER
        self.pending_conns.append(conn)

    def _drain(self, conn: TConn, client: socket.socket) -> None:
        try:
            received = len(client.recv(4096))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        conn.drained += received
        if not received or conn.drained > MAX_DRAINED:
            self._end(conn)

    def _end(self, conn: TConn) -> None:
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """End connections that have sent no next request in time; all with `force`."""
        now = time.monotonic()
        for conn in list(self.keepalived_conns):  # not in the order of these times
            if force or (self._is_due(conn, now) and not _has_sent(conn)):
                self._remove(conn)
                self.nr_conns -= 1
                conn.close()

    def murder_pending(self) -> None:
        """End connections that have sent no request, or no end, in time."""
        now = time.monotonic()
        for conn in list(self.pending_conns):  # not in the order of these times
            if self._is_due(conn, now) and (conn.initialized or not _has_sent(conn)):
                self._end(conn)

    def _is_due(self, conn: TConn, now: float) -> bool:
        if not self.alive:  # a client may be sending a request
            conn.timeout = min(conn.timeout, now + LINGER)
        return bool(conn.timeout <= now)


def _has_sent(conn: TConn) -> bool:
    """Return whether the client has sent what no thread was free to read."""
    try:
        return bool(socket.socket.recv(conn.sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
