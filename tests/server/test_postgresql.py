"""Servers on one PostgreSQL: what one of them answered, and what survives a restart of it."""

import time
from contextlib import closing

import pytest

from app.settings import Settings
from app.store.store import Store
from tests.postgresql import Cluster
from tests.server.writing import Writers, check_log

pytestmark = pytest.mark.needs("initdb", "postgresql")


@pytest.fixture
def fragile():
    """A server of PostgreSQL that the test may stop."""
    started = Cluster()
    yield started
    started.remove()


@pytest.mark.databases("postgresql")
def test_a_write_is_in_the_next_reply_of_every_host(serve):
    """After each of 1,000 writes, answered by one of three, the next read of each shows it."""
    servers = [serve(f"host-{number}", WEB_CONCURRENCY="1") for number in range(3)]
    key = servers[0].admin_key
    connections = [server.connect() for server in servers]
    stale = []
    for number in range(1000):
        writer = number % 3
        written = servers[writer](
            "POST", "/admin/models", {"id": f"m{number}"}, key, connections[writer]
        )
        assert 201 == written.status
        for server, connection in zip(servers, connections, strict=True):
            read = server("GET", f"/v1/models/m{number}", connection=connection)
            if read.status != 200:
                stale.append((number, server.port, read.status))
    for connection in connections:
        connection.close()

    assert [] == stale
    assert 1 == len({server("GET", "/v1/models").body for server in servers})


def test_fifty_restarts_lose_nothing(serve, fragile, clock, tmp_path):
    """The server is restarted amid writes: each answered write is there, and in the log."""
    url = fragile.url(fragile.create())
    servers = [serve(name, ROSTER_DATABASE_URL=url, WEB_CONCURRENCY="1") for name in "ab"]
    writers = Writers(servers[0].admin_key)
    reads = []
    with writers.writing_to(*servers), closing(servers[1].connect()) as connection:
        for number in range(50):
            at = writers.count
            deadline = time.monotonic() + 30
            while writers.count == at:
                assert time.monotonic() < deadline
                reads.append(servers[1]("GET", "/v1/models", connection=connection).status)
                time.sleep(0.01)
            fragile.stop("immediate" if number % 2 else "fast")
            reads.append(servers[1]("GET", "/v1/models", connection=connection).status)
            fragile.start()
    settings = Settings(instance_path=tmp_path / "here", database_url=url)
    store = Store(settings, clock)
    check_log(store, settings)
    writers.check({model.id: model for model in store.load().models}, writers.acknowledged)
    store.close()

    assert {200} == set(reads)
    assert writers.refused > 0
