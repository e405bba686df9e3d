"""Faults of the machine under a running server: reads go on, and all mends itself.

Each fault is made without privileges and holds for root too. Permissions bind a server that
root starts because it runs without the capability to pass them by. A disk is full where a file
may not grow (EFBIG, by a limit that the kernel keeps), and really (ENOSPC) where the machine
lets us mount a small one.
"""

import contextlib
import http.client
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from tests.server.processes import stop
from tests.server.writing import check_log

#: Seconds within which a write is refused, and within which everything is well again.
REFUSED, RECOVERED = 15, 12
#: A root without this capability is bound by permissions, like everybody else.
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def reading(server):
    """Read all the while, on new connections; at the end each read must have been answered."""
    answers, failures = [], []
    stop = threading.Event()

    def read():
        while not stop.wait(0.005):
            for path in ("/v1/models", "/v1/models/kept"):
                try:
                    answers.append(server("GET", path))
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert ({200}, []) == ({answer.status for answer in answers}, failures)
    assert len(answers) > 10


class Writer:
    """One who writes entry after entry and notes what became of each."""

    def __init__(self, server):
        self.server = server
        self.key = server.admin_key
        self.written = {"kept"}
        #: Entries of which nobody said what became of them.
        self.unanswered = set()
        self._numbers = itertools.count()
        assert server.admin("POST", "/admin/models", {"id": "kept"}).status == 201

    def __call__(self, connection=None):
        """Write one entry and return the status: 201, within its time 503, or None."""
        body = {"id": f"m{next(self._numbers)}", "description": "x" * 2000}
        began = time.monotonic()
        try:
            answer = self.server("POST", "/admin/models", body, self.key, connection)
        except (OSError, http.client.HTTPException):
            self.unanswered.add(body["id"])
            return None
        assert time.monotonic() - began < REFUSED
        if answer.status == 201:
            self.written.add(body["id"])
        else:
            assert (503, "1") == (answer.status, answer.headers["Retry-After"])
            assert "unavailable" == answer.json["error"]["code"]
        return answer.status

    def check(self):
        """Fail unless all that was answered with 201 is stored, and nothing that was refused."""
        settings = Settings(instance_path=self.server.instance)
        store = Store(settings, time.time)
        assert self.written == {model.id for model in store.load().models} - self.unanswered
        check_log(store, settings)
        store.close()


def ready(server, connections):
    """Return what each worker says of its readiness, as a set of words."""
    return {server("GET", "/readyz", connection=each).json["status"] for each in connections}


def logged(server, logger):
    """Return by worker what one of our loggers said."""
    said = {}
    for line in server.err.read_text().splitlines():
        record = json.loads(line)
        if record["logger"] == logger:
            said.setdefault(record["pid"], []).append(record["message"])
    return said


def check_no_500(server):
    statuses = {
        json.loads(line)["status"]
        for line in server.out.read_text().splitlines()
        if line.startswith("{")
    }
    assert statuses <= {200, 201, 503}
    assert "Traceback" not in server.err.read_text()


# Faults: each holds while its block runs.


@contextlib.contextmanager
def locked(server):
    """Another process writes, and does not come to an end."""
    holder = sqlite.connect(server.instance / "roster.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


@contextlib.contextmanager
def full(server):
    """No file can grow beyond what the log of the database has already."""
    size = (server.instance / "roster.db-wal").stat().st_size
    for worker in server.workers():
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    for worker in server.workers():
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)


@contextlib.contextmanager
def without_descriptors(server):
    """No worker can open anything."""
    before = {}
    for worker in server.workers():
        taken = {int(name) for name in os.listdir(f"/proc/{worker}/fd")}  # noqa: PTH208
        free = next(number for number in itertools.count() if number not in taken)
        before[worker] = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (free, before[worker][1]))
    yield
    for worker, limits in before.items():
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def read_only(server):
    """Nothing can be opened for writing any more."""
    for path in server.instance.glob("roster.db*"):
        path.chmod(0o440)
    server.instance.chmod(0o550)
    yield
    server.instance.chmod(0o750)
    for path in server.instance.glob("roster.db*"):
        path.chmod(0o640)


@contextlib.contextmanager
def database_gone(server):
    """The database and its logs are somewhere else."""
    elsewhere = server.instance / "elsewhere"
    elsewhere.mkdir()
    for path in server.instance.glob("roster.db*"):
        path.rename(elsewhere / path.name)
    yield
    for path in elsewhere.iterdir():
        path.rename(server.instance / path.name)


@contextlib.contextmanager
def folder_gone(server):
    """The whole instance folder is somewhere else."""
    elsewhere = server.instance.with_name("elsewhere")
    server.instance.rename(elsewhere)
    yield
    elsewhere.rename(server.instance)


@pytest.mark.slow
def test_a_lock_of_another_process_is_waited_for_and_no_longer(serve):
    """Locked for 8 seconds: reads stay fresh, a write waits for its 5 seconds, or is through."""
    server = serve()
    write = Writer(server)
    with (
        server.connections_to_each() as workers,
        ThreadPoolExecutor(3) as clients,
        reading(server) as answers,
    ):
        with locked(server):  # three writers: so many may wait even if one worker gets them all
            end = time.monotonic() + 8
            refused = [clients.submit(write) for _ in range(3)]
            assert [503] * 3 == [answer.result() for answer in refused]
            waiting = [clients.submit(write) for _ in range(3)]
            assert {"ready"} == ready(server, workers)
            time.sleep(max(0, end - time.monotonic()))  # less is left on a busy machine
        assert [201] * 3 == [answer.result(RECOVERED) for answer in waiting]

    assert {None} == {answer.headers["x-roster-stale"] for answer in answers}
    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_waiting_writers_leave_a_thread_to_readers(serve):
    """However many writers wait for a lock, reads are answered, and surplus writes at once."""
    server = serve(WEB_CONCURRENCY="1")
    write = Writer(server)
    with ThreadPoolExecutor(16) as clients, locked(server):
        writing = [clients.submit(write) for _ in range(16)]
        wait_until(lambda: sum(each.done() for each in writing) == 13)
        assert 200 == server("GET", "/v1/models").status
        assert 3 == sum(not each.done() for each in writing)
        assert [503] * 16 == [each.result() for each in writing]
    wait_until(lambda: write() == 201, RECOVERED)

    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_a_disk_that_is_really_full(serve, tmp_path):
    """With no byte left on the disk reads are fresh and writes refused whole, until there is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = 'mount -t tmpfs -o size=1m roster "$0" && exec "$@"'
    if subprocess.run(
        [*mounted, mount, disk, "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a disk of their own")
    url = f"sqlite:///{disk}/roster.db"
    server = serve("served", *mounted, mount, str(disk), ROSTER_DATABASE_URL=url)
    write = Writer(server)
    ballast = Path(f"/proc/{server.process.pid}/root{disk}/ballast")
    with server.connections_to_each() as workers, reading(server) as answers:
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 512)
        assert [503] * 20 == [write() for _ in range(20)]
        assert {"ready"} == ready(server, workers)
        ballast.unlink()
        wait_until(lambda: write() == 201, RECOVERED)

    assert {None} == {answer.headers["x-roster-stale"] for answer in answers}
    assert "Answered 503: database or disk is full" in server.err.read_text()
    assert write.written == {entry["id"] for entry in server("GET", "/v1/models").json["data"]}
    check_no_500(server)


@pytest.mark.slow
def test_without_descriptors_reads_go_on(serve):
    """A worker that can open nothing answers reads, and refuses writes until it can."""
    server = serve()
    write = Writer(server)
    pids = server.workers()
    with server.connections_to_each() as known, without_descriptors(server):
        for _ in range(20):
            for connection in known:
                assert 200 == server("GET", "/v1/models/kept", connection=connection).status
                assert 503 == write(connection)
    wait_until(lambda: write() == 201, RECOVERED)

    assert pids == server.workers()
    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_connections_beyond_the_descriptors_wait(serve):
    """With more clients than descriptors no worker ends; whom it knows it answers, writes too."""
    server = serve("served", "prlimit", "--nofile=112", WEB_CONCURRENCY="1", ROSTER_THREADS="8")
    write = Writer(server)
    [pid] = server.workers()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as strangers:
        known = server.connect()
        stack.callback(known.close)
        # The worker keeps one connection alive, and closes known while it has an earlier one.
        wait_until(lambda: write(known) == 201 and known.sock is not None)
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        late = [strangers.submit(server, "GET", "/v1/models/kept") for _ in range(8)]
        for _ in range(3):
            assert 201 == write(known)
            assert 200 == server("GET", "/v1/models/kept", connection=known).status
        assert not any(answer.done() for answer in late)
        for connection in idle:
            connection.close()
        assert [200] * 8 == [answer.result(RECOVERED).status for answer in late]

    assert [pid] == server.workers()
    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_a_stopped_worker_is_replaced(serve):
    """While one of two workers stands still the other answers; gunicorn replaces it in time.

    Whoever was connected to the stopped one waits until then: 30 seconds as shipped.
    """
    server = serve(GUNICORN_CMD_ARGS="--timeout 2")
    write = Writer(server)
    with server.connections_to_each() as workers:
        stopped = server.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        with reading(server):
            assert [201] * 20 == [write() for _ in range(20)]
            wait_until(lambda: stopped not in server.workers(), RECOVERED)
            wait_until(lambda: len(server.workers()) == 2, RECOVERED)
            assert [201] * 20 == [write() for _ in range(20)]
        answered = []
        for connection in workers:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered.append(server("GET", "/v1/models/kept", connection=connection).status)

    assert [200] == answered
    write.check()
    check_no_500(server)


def stop_a_writer(server):
    """Stop the worker that holds the writers' lock and return its process id, or None."""
    inode = (server.instance / "roster.db.lock").stat().st_ino
    for worker in server.workers():
        stop(worker)
        if re.search(rf"FLOCK .* {worker} \w+:\w+:{inode} ", Path("/proc/locks").read_text()):
            return worker
        os.kill(worker, signal.SIGCONT)
    return None


@pytest.mark.slow
def test_a_worker_stopped_in_the_middle_of_a_write_holds_up_writers_alone(serve):
    """Others wait for its lock until gunicorn replaces it; who reads notices nothing."""
    server = serve(GUNICORN_CMD_ARGS="--timeout 2")
    write = Writer(server)
    stop = threading.Event()

    def write_on():
        while not stop.is_set():
            write()

    with ThreadPoolExecutor(2) as clients:
        writing = [clients.submit(write_on) for _ in range(2)]
        found = []
        wait_until(lambda: found.append(stop_a_writer(server)) or found[-1] is not None)
        stopped = found[-1]
        with reading(server):
            wait_until(lambda: stopped not in server.workers(), RECOVERED)
            wait_until(lambda: write() == 201, RECOVERED)
        stop.set()
        assert [None, None] == [each.result() for each in writing]

    assert len(write.unanswered) <= 2
    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_a_backup_in_its_place_is_what_is_served(serve):
    """A database that is lost and replaced by its backup is followed from there."""
    server = serve()
    write = Writer(server)
    assert [201] * 5 == [write() for _ in range(5)]
    store = Store(Settings(instance_path=server.instance), time.time)
    store.backup(server.instance / "backup.db")
    store.close()
    in_backup = set(write.written)
    assert [201] * 5 == [write() for _ in range(5)]
    with server.connections_to_each() as workers, reading(server):
        for path in server.instance.glob("roster.db*"):
            path.unlink()
        wait_until(lambda: ready(server, workers) == {"stale"})
        assert [503] * 5 == [write() for _ in range(5)]
        (server.instance / "backup.db").rename(server.instance / "roster.db")
        wait_until(lambda: ready(server, workers) == {"ready"}, RECOVERED)
        for connection in workers:
            listed = server("GET", "/v1/models", connection=connection).json["data"]
            assert in_backup == {entry["id"] for entry in listed}
        write.written = in_backup
        assert [201] * 20 == [write() for _ in range(20)]

    write.check()
    check_no_500(server)


@pytest.mark.slow
def test_a_full_disk_can_be_read(serve):
    """On a full disk reads are fresh, writes are refused whole, and later taken again."""
    server = serve()
    write = Writer(server)
    pids = server.workers()
    with server.connections_to_each() as workers, reading(server) as answers:
        with full(server):
            assert [503] * 20 == [write() for _ in range(20)]
            assert {"ready"} == ready(server, workers)
        wait_until(lambda: write() == 201, RECOVERED)
        assert [201] * 20 == [write() for _ in range(20)]

    assert {None} == {answer.headers["x-roster-stale"] for answer in answers}
    assert pids == server.workers()
    write.check()
    check_no_500(server)


@pytest.mark.parametrize(
    "fault",
    [database_gone, *(pytest.param(f, marks=pytest.mark.slow) for f in (folder_gone, read_only))],
)
@pytest.mark.needs("setpriv", "util-linux")
def test_what_is_out_of_reach_is_served_from_the_last_snapshot(serve, fault):
    """Without its database a worker serves what it has and says so, until it is back."""
    server = serve("served", *BOUND)
    write = Writer(server)
    pids = server.workers()
    with server.connections_to_each() as workers, reading(server) as answers:
        with fault(server):
            wait_until(lambda: ready(server, workers) == {"stale"})
            begun = len(answers)
            assert [503] * 20 == [write() for _ in range(20)]
            refused = server("GET", "/readyz").json
            wait_until(lambda: len(answers) > begun + 100)
            stale = answers[begun + 5 :]
            assert None not in {answer.headers["x-roster-stale"] for answer in stale}
        wait_until(lambda: ready(server, workers) == {"ready"}, RECOVERED)
        assert [201] * 20 == [write() for _ in range(20)]

    assert "x-roster-stale" not in server("GET", "/v1/models").headers
    assert ("stale", 1) == (refused["status"], refused["entries"])
    for said in logged(server, "app.catalog.catalog").values():
        assert ["The store cannot be read: ", "The store can be read again."] == [
            re.sub(": .*", ": ", sentence) for sentence in said
        ]
    assert pids == server.workers()
    write.check()
    check_no_500(server)


@pytest.mark.slow
@pytest.mark.needs("setpriv", "util-linux")
def test_a_worker_that_starts_on_a_read_only_disk_writes_later(serve):
    """What a worker opens while the disk is read-only does not stay read-only."""
    server = serve("served", *BOUND, WEB_CONCURRENCY="1")
    write = Writer(server)
    with read_only(server):
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: write() == 503)
        assert 503 == server("GET", "/readyz").status
    wait_until(lambda: server("GET", "/readyz").status == 200, RECOVERED)

    assert [201] * 20 == [write() for _ in range(20)]
    write.check()
    check_no_500(server)


@pytest.fixture
def unread():
    """A pipe that nobody reads: a reader for the end of the test, and what a server writes to."""
    read, write = os.pipe()
    with open(read, "rb") as reader, open(write, "wb") as writer:  # noqa: PTH123 - descriptors
        yield reader, writer


@pytest.mark.slow
def test_a_standard_error_that_is_full_stops_no_process(serve, unread):
    """Writes are refused and reads answered, and the master starts one more worker."""
    _, writer = unread
    server = serve(stderr=writer.fileno())
    key = server.admin_key
    filler = os.open(f"/proc/self/fd/{writer.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(filler, b"x")
    os.close(filler)
    with server.connections_to_each() as workers, full(server):
        for connection in workers * 2:
            answer = server("POST", "/admin/models", {"id": "x"}, key, connection)
            assert 503 == answer.status
            for path in ("/healthz", "/v1/models"):
                assert 200 == server("GET", path, connection=connection).status
    os.kill(server.process.pid, signal.SIGTTIN)
    wait_until(lambda: len(server.workers()) == 3)
    with server.connections_to_each() as workers:
        assert 3 == len(workers)


@pytest.mark.slow
def test_what_nobody_reads_is_lost_and_counted(serve, unread, samples):
    """Lines about malformed requests wait within a bound; a reader finds how many were lost."""
    reader, writer = unread
    application = ("tests.server.little_room:app",)
    server = serve(application=application, WEB_CONCURRENCY="1", stderr=writer.fileno())

    def lost():
        return samples(server("GET", "/metrics").body.decode())["roster_error_lines_lost_total"]

    writer.close()
    sent = 0
    while not (number := lost()):
        assert sent < 1000
        for _ in range(16):
            with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
                connection.sendall(b"GET /\x01\r\n\r\n")
                assert b" 400 " in connection.recv(100)
            sent += 1
    assert 200 == server("GET", "/v1/models").status
    os.set_blocking(reader.fileno(), False)
    data = bytearray()
    wait_until(
        lambda: data.extend(reader.read() or b"") or b"Lost %d error lines: " % number in data
    )
    messages = [json.loads(line)["message"] for line in data.splitlines()]

    assert sent == number + sum("Refused" in message for message in messages)
