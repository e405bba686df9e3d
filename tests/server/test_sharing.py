"""How workers share connections, and how the threads of a worker take turns."""

import os
import signal
import socket
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.postgresql import wait_until
from tests.server.processes import stop

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def shares():
    """Return what counts the connections of each worker by a request on each."""

    def count(server, connections):
        answers = [server("GET", "/v1/models", connection=one) for one in connections]
        assert {200} == {answer.status for answer in answers}
        held = Counter(dict.fromkeys(server.workers(), 0))
        held.update(server.access_line(answer)["pid"] for answer in answers)
        return held

    return count


@pytest.fixture
def connect():
    """Return what opens connections to a server; they are closed after the test."""
    with ExitStack() as stack:

        def open_some(server, number):
            made = [server.connect() for _ in range(number)]
            for one in made:
                stack.callback(one.close)
            return made

        yield open_some


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_connections(serve, shares, connect, workers):
    """No share is twice as much as it should be, or half of that."""
    server = serve(WEB_CONCURRENCY=str(workers))
    with server.connections_to_each():
        pass  # all of them serve
    held = shares(server, connect(server, 8 * workers))

    assert 4 < min(held.values()) <= max(held.values()) < 16


@pytest.mark.slow
def test_connections_move_to_a_worker_that_has_few(serve, shares, connect):
    """All are accepted while the other is stopped; later, answers end some, and it gets these."""
    server = serve(WEB_CONCURRENCY="2")
    stopped, other = server.workers()
    with server.connections_to_each():
        pass  # both of them serve
    stop(stopped)
    try:
        connections = connect(server, 24)
        at_first = shares(server, connections)
    finally:
        os.kill(stopped, signal.SIGCONT)

    assert {stopped: 0, other: 24} == at_first
    wait_until(lambda: 8 < shares(server, connections)[stopped] < 16)


@pytest.fixture
def lasting(serve):
    """A server of one worker with two threads; `/lasting` lasts while the file `held` exists."""
    server = serve(
        application=("tests.server.lasting:app",), WEB_CONCURRENCY="1", ROSTER_THREADS="2"
    )
    held = server.instance / "held"
    held.touch()
    yield server, held
    held.unlink(missing_ok=True)


def test_a_long_request_holds_nobody_up(lasting, connect):
    """Another thread gets the turn, and the connection goes on afterwards."""
    server, held = lasting
    [long] = connect(server, 1)
    long.request("GET", "/lasting")
    meanwhile = [server("GET", "/v1/models").status for _ in range(3)]
    held.unlink()
    answer = long.getresponse()
    answer.read()

    assert [200] * 3 == meanwhile
    assert 200 == answer.status
    assert 200 == server("GET", "/v1/models", connection=long).status


def test_when_all_threads_are_taken_others_wait(lasting, connect):
    """They are answered as soon as one is free, and nothing is lost."""
    server, held = lasting
    connections = connect(server, 4)
    for one in connections:
        one.request("GET", "/lasting")
    held.unlink()
    answers = [one.getresponse() for one in connections]

    assert [200] * 4 == [answer.status for answer in answers]


@pytest.fixture
def raw(lasting):
    """Return what opens a plain socket to the server of `lasting`."""
    server, _ = lasting
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))


def test_requests_that_come_together_are_all_answered(raw):
    """A client need not wait for an answer before it sends the next request."""
    client = raw()
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 399)
    client.sendall(GET + b"Connection: close\r\n\r\n")
    received = b"".join(iter(lambda: client.recv(65536), b""))

    assert 400 == received.count(b"HTTP/1.1 200 OK\r\n")


def test_half_a_request_holds_nobody_up(lasting, raw):
    """The thread that waits for the rest is not the one that serves."""
    server, _ = lasting
    client = raw()
    client.sendall(GET)
    meanwhile = [server("GET", "/v1/models").status for _ in range(3)]
    client.sendall(b"Connection: close\r\n\r\n")
    received = b"".join(iter(lambda: client.recv(65536), b""))

    assert [200] * 3 == meanwhile
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_keeps_a_connection_open_holds_nobody_up(lasting, raw):
    """The server has ended more of them than it has threads, and waits for none of the clients."""
    server, _ = lasting
    clients = [raw() for _ in range(4)]
    for client in clients:
        client.sendall(GET + b"Connection: close\r\n\r\n")
        while client.recv(65536):
            pass

    assert 200 == server("GET", "/v1/models").status


def test_connections_that_send_nothing_take_no_thread(lasting, raw):
    """As many as there are threads, and more."""
    server, _ = lasting
    for _ in range(8):
        raw()

    assert 200 == server("GET", "/v1/models").status
