"""Three hosts on one PostgreSQL behind one nginx: whoever is asked, it is one catalogue."""

import json
import time
from collections import Counter
from contextlib import ExitStack

import pytest

PATIENCE = 30.0  # seconds

pytestmark = [
    pytest.mark.needs("nginx", "nginx"),
    pytest.mark.needs("initdb", "postgresql"),
    pytest.mark.databases("postgresql"),
]


@pytest.fixture
def hosts(run_gunicorn, database):
    """The folders of three gunicorns that share the database."""
    with ExitStack() as stack:
        yield [stack.enter_context(run_gunicorn(database)) for _ in range(3)]


def answered(hosts, expected):
    """Return how often each host gave which answer; their lines come a moment behind."""
    deadline = time.monotonic() + PATIENCE
    while True:
        texts = [(host / "out").read_text() for host in hosts]
        if expected == sum(text.count('"route":') for text in texts):
            break
        assert time.monotonic() < deadline, texts
        time.sleep(0.01)
    lines = [[line for line in text.splitlines() if line.startswith("{")] for text in texts]
    told = [map(json.loads, of_host) for of_host in lines]
    return [Counter((line["method"], line["status"]) for line in of_host) for of_host in told]


def test_a_write_is_in_the_next_reply_of_every_host(hosts, nginx):
    """After each of 1,000 writes, answered by one of three, the next read of each shows it.

    A process of nginx takes the hosts in turn, so that of four requests on one connection three
    are the reads, one for each host, and the next write is another host's.
    """
    key = (hosts[0] / "admin-key").read_text().strip()
    site = nginx(*(host / "s" for host in hosts))
    connection = site.connect()
    statuses = Counter()
    for number in range(1000):
        body = {"id": f"m{number}"}
        assert 201 == site("POST", "/admin/models", body, key, connection).status
        for _ in hosts:
            statuses[site("GET", f"/v1/models/m{number}", connection=connection).status] += 1
    connection.close()
    by_host = answered(hosts, 4000)

    assert {200: 3000} == statuses
    assert [1000] * 3 == [answers["GET", 200] for answers in by_host]
    # nginx ends a connection after 1,000 requests, and its next process begins with any host.
    assert all(answers["POST", 201] in range(4 * 83, 4 * 84 + 1) for answers in by_host)
