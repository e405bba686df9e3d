"""The workers of ``gunicorn.conf.py``, without a server."""

import gc
import logging
import mmap
import os
import runpy
import selectors
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn

from app.generations import Generations, new_connections, new_memory
from tests.postgresql import wait_until

CONF = Path(__file__).parents[1] / "gunicorn.conf.py"


@pytest.fixture
def conf(monkeypatch):
    for name in ("write_error", "http_date"):  # the configuration replaces them
        monkeypatch.setattr(util, name, getattr(util, name))
    return runpy.run_path(str(CONF))


@pytest.fixture
def worker(conf):
    """Give a worker that is about to accept connections."""
    worker = conf["ReplaceableWorker"](1, os.getppid(), [], None, 15, Config(), logging.root)
    worker.roster_generations = Generations(new_memory(), new_connections())
    worker.roster_generation = worker.roster_generations.newest
    worker.roster_slot = worker.roster_generations.take()
    worker.method_queue.init()
    worker.booted = True
    yield worker
    worker.method_queue.close()
    worker.tmp.close()


@pytest.mark.parametrize("handler", ["handle_exit", "handle_quit"])
def test_a_worker_that_is_stopped_serves_no_more(worker, handler):
    """The others see that at once: from then on it accepts no connection."""
    worker.notify()
    serves = worker.roster_generations.serves(worker.roster_slot)
    getattr(worker, handler)(signal.SIGTERM, None)

    assert serves
    assert not worker.roster_generations.serves(worker.roster_slot)


def test_a_signal_that_comes_while_a_worker_notes_that_it_serves(worker, monkeypatch):
    """What it has noted does not last."""
    serve = worker.roster_generations.serve

    def interrupted(*arguments):
        worker.handle_exit(signal.SIGTERM, None)
        serve(*arguments)

    monkeypatch.setattr(worker.roster_generations, "serve", interrupted)
    worker.notify()

    assert not worker.roster_generations.serves(worker.roster_slot)


def test_a_worker_that_has_answered_its_last_request_serves_no_more(worker):
    """gunicorn ends it without a signal at `max_requests`, and it finishes what it has in hand."""
    worker.notify()
    worker.alive = False
    worker.notify()

    assert not worker.roster_generations.serves(worker.roster_slot)


@pytest.fixture
def kept(worker):
    """Return what gives `worker` a connection whose time is over, and the client's end of it."""
    with ExitStack() as stack:
        worker.poller = stack.enter_context(selectors.DefaultSelector())

        def keep(connections):
            client, server = (stack.enter_context(end) for end in socket.socketpair())
            conn = TConn(Config(), server, "", "")
            conn.timeout = time.monotonic()
            worker.poller.register(server, selectors.EVENT_READ)
            worker.nr_conns += 1
            connections.append(conn)
            return client

        yield keep


@pytest.mark.parametrize("which", ["pending", "keepalived"])
@pytest.mark.parametrize("alive", [True, False])
def test_a_request_that_waits_for_a_thread_is_not_lost(worker, kept, which, alive):
    """Its connection does not end while all threads are taken; one without a request does."""
    worker.alive = alive
    connections = getattr(worker, f"{which}_conns")
    requesting, idle = kept(connections), kept(connections)
    requesting.sendall(b"GET / HTTP/1.1\r\n\r\n")
    getattr(worker, f"murder_{which}")()

    assert 1 == len(connections) == worker.nr_conns
    assert b"" == idle.recv(1)
    with pytest.raises(BlockingIOError):
        requesting.recv(1, socket.MSG_DONTWAIT)


def test_a_worker_ends_no_more_connections_than_it_has_too_many(worker, kept):
    """If no other worker takes them, their clients come back to it, and it keeps them."""
    generations = worker.roster_generations
    other = generations.take()
    generations.serve(other, worker.roster_generation)
    generations.hold(other, 0, time.monotonic())
    most = worker.max_keepalived
    clients = [kept(worker.keepalived_conns) for _ in range(8)]
    for _ in range(2):
        worker._shed()
    ended = 0
    while worker.max_keepalived != most and worker.keepalived_conns:
        conn = worker.keepalived_conns.popleft()
        worker.poller.unregister(conn.sock)
        worker.finish_request(conn, SimpleNamespace(result=lambda: False))
        ended += 1

    assert len(clients) // 2 == ended


def test_a_worker_can_quit_while_it_accepts(worker):
    """SIGQUIT waits for no lock of the thread pool, which the interrupted code may hold."""
    worker.alive = True
    worker.tpool = ThreadPoolExecutor(1)
    with worker.tpool._shutdown_lock:
        handler = threading.Thread(target=worker.handle_quit, args=(signal.SIGQUIT, None))
        handler.start()
        handler.join(5)
        waits = handler.is_alive()

    assert not waits
    assert worker.quits


def test_a_reload_finds_what_an_older_program_has_made(conf):
    """Its master has memory for generations alone, and its workers go on reading that."""
    older, earlier = mmap.mmap(-1, 4 * 1002), SimpleNamespace(roster_slot=2)
    numbers = memoryview(older).cast("I")
    numbers[0] = numbers[2] = 2  # one worker serves, of the first generation
    server = SimpleNamespace(
        cfg=SimpleNamespace(workers=1), num_workers=1, worker_age=1, WORKERS={1: earlier}
    )
    server.roster_generations, server.roster_memory = older, conf["_shared_pages"]["new_memory"]()
    new = SimpleNamespace()
    conf["on_reload"](server)
    conf["pre_fork"](server, new)
    conf["_unblock"]()
    new.roster_generations.serve(new.roster_slot, new.roster_generation)

    assert [3, 1, 2, 3] == numbers[:4].tolist()
    assert [] == new.roster_generations.others(new.roster_slot, 1000.0)


@pytest.fixture
def serving(worker):
    """Return what lets the threads of a worker serve, with `handle` in place of gunicorn's."""
    worker.PIPE = os.pipe()
    worker.poller = selectors.DefaultSelector()
    worker.tpool = ThreadPoolExecutor(2)
    queue = worker.method_queue
    worker.poller.register(queue.fileno(), selectors.EVENT_READ, queue.run_callbacks)

    def serve(handle):
        worker.handle = handle
        worker._promote()

    yield serve
    worker.alive = False
    queue.defer(int)  # an event
    worker.tpool.shutdown()
    worker.poller.close()
    for end in worker.PIPE:
        os.close(end)


@pytest.mark.usefixtures("serving")
def test_what_fails_in_a_thread_ends_the_worker(worker):
    """As in gunicorn's own main thread: the master starts another worker."""

    def fail(_):
        raise OSError("out of descriptors")

    worker.poller.register(worker.PIPE[0], selectors.EVENT_READ, fail)
    os.write(worker.PIPE[1], b"\0")

    with pytest.raises(OSError, match="out of descriptors"):
        worker.wait_for_and_dispatch_events(5)


@pytest.mark.parametrize("siblings", [1, 3])
def test_a_burst_is_accepted_beside_workers_that_hang(worker, siblings):
    """Of 2,000 connections each waits for a millisecond 40 times at most, and not 2,000 times."""
    generations = worker.roster_generations
    for _ in range(siblings):
        slot = generations.take()
        generations.serve(slot, generations.newest)
        generations.hold(slot, 0, time.monotonic())
    worker.worker_connections = 3000
    pauses = 0
    while worker.nr_conns < 2000:
        if worker._leaves(time.monotonic()):
            pauses += 1
        else:
            worker.nr_conns += 1

    assert 0 < pauses <= 40


def test_a_request_that_was_sent_with_another_waits_for_no_other_client(worker, serving):
    """The thread that has begun to wait for the database leaves all other requests to others."""
    received = SimpleNamespace(unreader=SimpleNamespace(buf=BytesIO(b"GET /")))
    first, second = (SimpleNamespace(initialized=True, parser=received) for _ in range(2))
    done, answered = SimpleNamespace(result=lambda: True), threading.Event()
    waited = []

    def handle(conn):
        received.unreader.buf = BytesIO()
        if conn is second:
            answered.set()
        else:
            worker.follow()
            waited.append(answered.wait(5))

    for conn in (first, second):
        worker.finish_request(conn, done)
    serving(handle)
    answered.wait(10)

    wait_until(lambda: waited)
    assert [True] == waited


@pytest.fixture
def loaded(conf, worker):
    """Return what loads the snapshot of an application, and counts the objects then frozen."""

    def load(app):
        worker.wsgi, worker.ppid, worker.roster_page = app, os.getppid(), None
        worker.log = SimpleNamespace(error_log=logging.getLogger("of a test"))
        conf["post_worker_init"](worker)
        frozen = gc.get_freeze_count()
        gc.unfreeze()
        return frozen

    return load


def test_a_loaded_snapshot_is_frozen(loaded, app):
    """The garbage collector leaves what stays alone."""
    assert loaded(app) > 0
    assert gc.isenabled()


@pytest.fixture
def endless(monkeypatch):
    """Return an event that ends the pauses while a list is made; there is one after each batch."""
    end = threading.Event()
    monkeypatch.setattr("app.replies.time", SimpleNamespace(sleep=lambda _: end.wait()))
    yield end
    end.set()


def test_the_first_worker_makes_the_list_while_it_serves(loaded, app, stocked, endless):
    """It accepts connections as soon as its snapshot is loaded, and the list is made once."""
    assert loaded(app) > 0
    replies = app.extensions["roster"].replies
    assert 0 == replies.misses
    [maker] = [thread for thread in threading.enumerate() if thread.name == "first list"]
    assert maker.daemon  # it does not hold up a stop
    endless.set()
    assert len(stocked) == len(app.test_client().get("/v1/models").json["data"])
    maker.join()

    assert (1, 1) == (replies.misses, replies.hits)


def test_a_worker_beside_others_makes_the_list_first(loaded, worker, app):
    """Nobody waits for a list when it takes over from others."""
    generations = worker.roster_generations
    generations.serve(generations.take(), worker.roster_generation)
    loaded(app)

    assert 1 == app.extensions["roster"].replies.misses


def test_a_first_list_that_fails_is_logged(loaded, app, caplog, monkeypatch):
    """The worker serves, and the next request makes the list."""
    logged = threading.Event()
    monkeypatch.setattr("app.services._log.exception", lambda *_: logged.set())
    dialect = app.extensions["roster"].dialects.default
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "listing", None)
        loaded(app)
        assert logged.wait(10)

    assert 200 == app.test_client().get("/v1/models").status_code


def test_what_a_failure_leaves_is_not_frozen(loaded, unopened_app):
    """A worker may try for hours, and the garbage collector frees what each try leaves."""
    assert 0 == loaded(unopened_app)
    assert gc.isenabled()


def test_the_date_is_that_of_the_answer(conf):
    """It is another one in another second."""
    dates = [util.http_date(seconds) for seconds in (0.0, 0.9, 1.0, 1e9)]

    assert dates == ["Thu, 01 Jan 1970 00:00:00 GMT"] * 2 + [
        "Thu, 01 Jan 1970 00:00:01 GMT",
        "Sun, 09 Sep 2001 01:46:40 GMT",
    ]


HTTPS = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n"


@pytest.mark.parametrize(
    ("peer", "scheme"),
    [(("127.0.0.1", 1), "https"), (("10.0.0.1", 1), "http"), ("", "https"), (b"\0x", "https")],
)
def test_only_a_trusted_peer_says_that_clients_use_https(conf, peer, scheme):
    """It is one on this host, at a port or at a Unix socket."""
    parser = RequestParser(Config(), [HTTPS, HTTPS], peer)

    assert [scheme] * 2 == [next(parser).scheme, next(parser).scheme]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("read", [0, 1, 5])
def test_the_next_request_begins_behind_a_body(conf, head, read):
    """So it does where the application has read no body, a part of it or all."""
    start = b"POST / HTTP/1.1\r\nHost: x\r\n"
    parser = RequestParser(Config(), [start + head + HTTPS], ("127.0.0.1", 1))
    next(parser).body.read(read)

    assert parser.finish_body()
    assert next(parser).method == "GET"
    assert parser.finish_body()


def test_a_connection_ends_with_a_body_that_cannot_be_read(conf):
    """Where the next request would begin is unknown."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
    parser = RequestParser(Config(), [head], ("127.0.0.1", 1))
    with pytest.raises(ParseException):
        next(parser).body.read()

    assert not parser.finish_body()


@pytest.fixture
def send(conf):
    """Return what sends the pieces of a body to a socket, as a response with this method."""
    ours = conf["_worker"]

    def send(sock, *pieces, method="GET", length=None):
        client = ours["Client"](sock, lambda: None)
        request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
        response = ours["Response"](request, client, Config())
        headers = [] if length is None else [("Content-Length", str(length))]
        response.start_response("200 OK", headers)
        for piece in pieces:
            response.write(piece)
        response.close()
        client.close()

    return send


@pytest.mark.parametrize(
    ("body", "options", "sent"),
    [
        ([b"ab", b"c"], {"length": 3}, [b"ab", b"c"]),
        ([b"ab", b"c"], {}, [b"2\r\nab\r\n", b"1\r\nc\r\n", b"0\r\n\r\n"]),
        ([b"", b"ab"], {"length": 2}, [b"", b"ab"]),
        ([b"ab"], {"length": 1}, [b"a"]),
        ([b"ab"], {"length": 0}, [b""]),
        ([b"ab"], {"length": 2, "method": "HEAD"}, [b""]),
        ([], {"length": 0}, [b""]),
    ],
)
def test_the_head_is_sent_with_the_first_piece(send, body, options, sent):
    """Later pieces are sent alone, and an answer without a body is its head."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send(ours, *body, **options)
    with theirs:
        [first, *others] = iter(partial(theirs.recv, 4096), b"")

    assert sent == [first.partition(b"\r\n\r\n")[2], *others]
    assert first.startswith(b"HTTP/1.1 200 OK\r\nServer: ")


def test_a_client_that_reads_slowly_gets_everything(send):
    """The kernel takes a part of the body, and the rest as the client reads."""
    body = os.urandom(1 << 20) * 4
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=send, args=(ours, body), kwargs={"length": len(body)})
    sender.start()
    with theirs:
        received = b"".join(iter(partial(theirs.recv, 65536), b""))
    sender.join()

    assert body == received.partition(b"\r\n\r\n")[2]
