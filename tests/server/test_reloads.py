"""A reload: at each moment some worker accepts connections, whatever the new workers do."""

import errno
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

PATIENCE = 30  # seconds


def until(condition):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return met


def listens(server):
    """Tell whether any process has the server's socket."""
    with socket.socket() as connection:
        connection.settimeout(1)  # second; too many may wait in the socket already
        return connection.connect_ex(("127.0.0.1", server.port)) != errno.ECONNREFUSED


def killed(log):
    """Return the workers that `log` shows to begin and not to end by themselves."""
    ended = re.findall(r"Worker exiting \(pid: (\d+)\)", log)
    return set(re.findall(r"Booting worker with pid: (\d+)", log)) - set(ended)


class Reloads:
    """A server whose new code waits while it is held, or is wrong."""

    def __init__(self, server):
        self.server = server
        self.held = server.instance / "held"
        self.wrong = server.instance / "wrong"

    @property
    def workers(self):
        return set(self.server.workers())

    @property
    def log(self):
        return self.server.err.read_text()

    def signal(self, number):
        self.server.process.send_signal(number)

    def begin(self, number=2):
        """Send HUP and return the new workers."""
        before = self.workers
        self.signal(signal.SIGHUP)
        return until(lambda: len(new := self.workers - before) == number and new)

    def answering(self):
        """Return the workers that answer ten requests, each on a connection of its own."""
        answers = [self.server("GET", "/v1/models") for _ in range(10)]
        assert {200} == {answer.status for answer in answers}
        return {self.server.access_line(answer)["pid"] for answer in answers}

    def end(self, old, number=2):
        """Let new code start, and wait until all workers are new ones."""
        self.held.unlink(missing_ok=True)
        until(lambda: self.answering() and not old & self.workers)
        assert number == len(self.workers)


@pytest.fixture(scope="module")
def application():
    return ("tests.server.held:app",)


@pytest.fixture
def reloads(server):
    """Give the reloads of a server, both workers of which serve."""
    reloads = Reloads(server)
    until(lambda: reloads.answering() == reloads.workers and len(reloads.workers) == 2)
    yield reloads
    for path in (reloads.held, reloads.wrong):
        path.unlink(missing_ok=True)


def test_old_workers_accept_until_new_ones_do(reloads):
    """New connections are answered by old workers, then by new ones, and at no moment by none."""
    old = reloads.workers
    reloads.held.touch()
    new = reloads.begin()

    assert reloads.answering() <= old
    assert old | new == reloads.workers
    reloads.end(old)
    assert new == reloads.workers


@pytest.mark.slow
def test_a_second_reload_replaces_workers_that_do_not_serve_yet(reloads):
    """The new workers of the first one end before they have loaded; the old ones serve on."""
    old = reloads.workers
    reloads.held.touch()
    loading = reloads.begin()
    new = reloads.begin()
    until(lambda: not loading & reloads.workers)

    assert reloads.answering() <= old
    reloads.end(old)
    assert new == reloads.workers


@pytest.mark.slow
def test_reloads_of_which_one_worker_serves_do_not_add_up(reloads):
    """As many workers serve on as are needed: the old ones, and not the new one beside them."""
    old = reloads.workers
    reloads.held.touch()
    one, other = reloads.begin()
    os.kill(one, signal.SIGSTOP)
    reloads.held.unlink()
    until(lambda: other in reloads.answering())
    reloads.held.touch()
    new = reloads.begin()
    os.kill(one, signal.SIGCONT)
    until(lambda: old | new == reloads.workers)

    assert reloads.answering() <= old
    reloads.end(old)
    assert new == reloads.workers


@pytest.mark.slow
def test_workers_are_killed_in_a_reload(reloads):
    """A new worker is replaced, an old one is not; afterwards there are as many as before."""
    old = reloads.workers
    reloads.held.touch()
    new = reloads.begin()
    for pid in (new.pop(), old.pop()):
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: pid not in reloads.workers)
    until(lambda: len(reloads.workers) == 3)

    assert reloads.answering() == old
    reloads.end(old)
    assert new < reloads.workers
    for pid in new:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(reloads.workers - new) == 2)


@pytest.mark.slow
def test_the_number_of_workers_changes_in_a_reload(reloads):
    """TTIN adds a new worker to two, and TTOU removes one afterwards."""
    old = reloads.workers
    reloads.held.touch()
    reloads.begin()
    reloads.signal(signal.SIGTTIN)
    until(lambda: len(reloads.workers) == 5)

    assert reloads.answering() <= old
    reloads.end(old, number=3)
    reloads.signal(signal.SIGTTOU)
    until(lambda: len(reloads.workers) == 2)


@pytest.mark.slow
def test_code_that_cannot_start_replaces_nothing(reloads):
    """The old workers serve on while it is tried again, and it is right code that ends them."""
    old = reloads.workers
    reloads.wrong.touch()
    failing = reloads.begin()
    until(lambda: reloads.log.count("This worker cannot start.") >= 2)

    assert reloads.answering() <= old
    assert failing | old == reloads.workers  # they wait for some seconds, and others try again
    reloads.wrong.unlink()
    for pid in failing:
        os.kill(pid, signal.SIGTERM)
    reloads.end(old)


@pytest.mark.slow
def test_a_worker_without_a_snapshot_replaces_none_that_has_one(reloads):
    """While the database is gone, old workers answer from their snapshots; new ones wait."""
    old = reloads.workers
    files = list(reloads.server.instance.glob("roster.db*"))
    for path in files:
        path.rename(path.with_name(f"away-{path.name}"))
    new = reloads.begin()
    failed = [f'"pid": {pid}, "message": "The store cannot be read' for pid in new]
    until(lambda: all(line in reloads.log for line in failed))

    assert reloads.answering() <= old
    for path in files:
        path.with_name(f"away-{path.name}").rename(path)
    reloads.end(old)
    assert new == reloads.workers


@pytest.mark.slow
def test_a_worker_quits_while_it_loads(reloads):
    """QUIT ends a new worker before its event loop runs, and another one takes its place."""
    old = reloads.workers
    reloads.held.touch()
    quitting, _ = reloads.begin()
    os.kill(quitting, signal.SIGQUIT)
    until(lambda: quitting not in reloads.workers and len(reloads.workers) == 4)

    reloads.end(old)


@pytest.mark.slow
def test_the_only_new_worker_is_kept(serve):
    """TTOU ends the old one of two workers; the new one, which still loads, stays."""
    server = serve(application=("tests.server.held:app",), WEB_CONCURRENCY="1")
    reloads = Reloads(server)
    old = reloads.workers
    reloads.held.touch()
    new = reloads.begin(1)
    reloads.signal(signal.SIGTTOU)
    until(lambda: not old & reloads.workers)
    reloads.end(old, number=1)

    assert new == reloads.workers


@pytest.mark.slow
def test_a_new_worker_ends_with_its_master(serve):
    """It waits for the store while an old one serves, whose slot nobody frees any more."""
    server = serve(WEB_CONCURRENCY="1")
    reloads = Reloads(server)
    (server.instance / "roster.db").rename(server.instance / "away.db")
    [new] = reloads.begin(1)
    until(lambda: f'"pid": {new}, "message": "The store cannot be read' in reloads.log)
    server.process.kill()

    until(lambda: not listens(server))


def test_no_process_blocks_a_signal(reloads):
    """Neither the master after a fork, nor a worker that has its handlers."""
    for pid in (reloads.server.process.pid, *reloads.workers):
        assert "\nSigBlk:\t0000000000000000\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.slow
def test_a_stop_reaches_a_worker_that_is_being_forked(serve):
    """A signal that comes before any code of Python runs in it ends it, and it is not killed."""
    server = serve(
        WEB_CONCURRENCY="1",
        GUNICORN_CMD_ARGS="-c tests/server/slow_forks.py --graceful-timeout 5",
    )
    reloads = Reloads(server)
    old = reloads.workers
    [new] = reloads.begin(1)
    reloads.signal(signal.SIGTERM)
    until(lambda: not old & reloads.workers)
    until(lambda: new not in reloads.workers or os.kill(new, signal.SIGUSR1))  # ends the fork

    assert 0 == server.process.wait(PATIENCE)
    assert set() == killed(reloads.log)


def test_a_server_stops_in_a_reload(reloads):
    """Workers that have just been forked end at once, and none has to be killed.

    It is the last test of this file: the server is stopped.
    """
    reloads.held.touch()
    before = len(reloads.log)
    reloads.signal(signal.SIGHUP)
    until(lambda: "Handling signal: hup" in reloads.log[before:])
    reloads.server.stop()

    assert 0 == reloads.server.process.returncode
    assert set() == killed(reloads.log[before:])
