"""The metrics of all workers together, through kills, reloads and outages."""

import os
import signal
import time

import pytest

LIST = 'roster_requests_total{dialect="openai",route="/v1/models",status="200"}'

FAILING = "roster_writes_failing"


@pytest.fixture
def read(samples):
    """Return what asks a server for its metrics, and gives them by name."""
    return lambda server: samples(server("GET", "/metrics").body.decode())


@pytest.fixture
def wait_for(read):
    """Return what asks until a condition holds; a worker publishes once a second."""

    def wait(server, holds):
        deadline = time.monotonic() + 30
        while not holds(found := read(server)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    return wait


def counters(found):
    """Return those numbers that only ever grow."""
    kinds = ("_total", "_bucket", "_count", "_sum")
    return {name: n for name, n in found.items() if name.partition("{")[0].endswith(kinds)}


def assert_grown(before, after):
    """Fail if a counter went down, or is gone."""
    shrunk = {name for name, n in counters(before).items() if after.get(name, -1) < n}

    assert set() == shrunk


def replaced(server, before):
    """Wait until two other workers serve, instead of those in `before`."""
    deadline = time.monotonic() + 30
    while set(server.workers()) & before or len(server.workers()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_count_together(serve, read, wait_for):
    """What two workers answered adds up to what was asked, whoever is asked for it."""
    server = serve()
    server.admin("POST", "/admin/models", {"id": "x"})
    asked = 0
    pids = set()
    while asked < 40 or pids != set(server.workers()):
        asked += 1
        pids.add(server.access_line(server("GET", "/v1/models"))["pid"])
    found = wait_for(
        server, lambda found: found.get(LIST) == asked and found["roster_revision"] == 2
    )

    assert (2, 1) == (found["roster_workers"], found["roster_entries"])
    assert asked == found['roster_request_duration_seconds_count{route="/v1/models"}']
    assert 0 == found["roster_outage"]
    assert found["roster_image_age_seconds"] < 30
    for _ in range(10):
        assert asked == read(server)[LIST]


@pytest.mark.slow
def test_counters_survive_kills_and_reloads(serve, read, wait_for):
    """After kill -9 of every worker and two HUPs nothing is lost and nothing counted twice."""
    server = serve()
    for _ in range(30):
        server("GET", "/v1/models")
    seen = wait_for(server, lambda found: found.get(LIST) == 30)
    for turn in range(4):
        before = set(server.workers())
        if turn % 2:
            server.process.send_signal(signal.SIGHUP)
        else:
            for pid in before:
                os.kill(pid, signal.SIGKILL)
        while set(server.workers()) & before or len(server.workers()) < 2:
            found = read(server)
            assert_grown(seen, found)
            seen = found
        replaced(server, before)
        found = wait_for(server, lambda found: found["roster_workers"] == 2)
        assert_grown(seen, found)
        assert 30 == found[LIST]
        seen = found
    server("GET", "/v1/models")
    wait_for(server, lambda found: found[LIST] == 31)


@pytest.mark.slow
def test_a_reload_loses_no_request(serve, wait_for):
    """Workers that a HUP ends publish their last requests when they go."""
    server = serve()
    for turn in range(3):
        before = set(server.workers())
        for _ in range(10):
            server("GET", "/v1/models")
        server.process.send_signal(signal.SIGHUP)
        replaced(server, before)
        found = wait_for(server, lambda found, n=10 * turn + 10: found[LIST] >= n)

        assert 10 * turn + 10 == found[LIST]


@pytest.mark.slow
def test_an_outage_shows_without_a_reader(serve, wait_for):
    """Workers that nobody asks notice that the database is gone, and that it is back.

    They tell what is in their last snapshot even where that is too old to be served.
    """
    server = serve(ROSTER_MAX_STALE="1")
    wait_for(server, lambda found: found["roster_workers"] == 2)
    away = server.instance / "away"
    away.mkdir()
    names = [path.name for path in server.instance.glob("roster.db*")]
    for name in names:
        (server.instance / name).rename(away / name)
    found = wait_for(server, lambda found: found["roster_outage"] == 1)
    assert 1 == found["roster_revision"]
    age = found["roster_image_age_seconds"]
    found = wait_for(server, lambda found: found["roster_image_age_seconds"] > age + 1.5)
    assert (503, 1) == (server("GET", "/v1/models").status, found["roster_revision"])
    for name in names:
        (away / name).rename(server.instance / name)
    found = wait_for(server, lambda found: found["roster_outage"] == 0)

    assert found["roster_image_age_seconds"] < 30


@pytest.mark.slow
def test_the_last_write_of_all_workers_counts(serve, wait_for):
    """A write that one worker could not make is over when another worker makes one."""
    server = serve()
    database = server.instance / "roster.db"
    told = []
    with server.connections_to_each() as workers:
        for away, status in ((True, 503), (False, 201)):
            if away:
                database.rename(database.with_name("away"))
            else:
                database.with_name("away").rename(database)
            worker, body = workers.pop(), {"id": "x"}
            answer = server("POST", "/admin/models", body, server.admin_key, worker)
            assert status == answer.status
            told.append(wait_for(server, lambda found, e=away: found[FAILING] == e)[FAILING])

    assert [1, 0] == told


@pytest.mark.slow
def test_a_stopped_worker_shows(serve, wait_for):
    """The snapshot of a worker that no longer runs grows old, though it says nothing itself."""
    server = serve()
    wait_for(server, lambda found: found["roster_workers"] == 2)
    [stopped, _] = server.workers()
    os.kill(stopped, signal.SIGSTOP)
    try:
        found = wait_for(server, lambda found: found["roster_image_age_seconds"] > 3)
    finally:
        os.kill(stopped, signal.SIGCONT)

    assert (2, 0) == (found["roster_workers"], found["roster_outage"])
    wait_for(server, lambda found: found["roster_image_age_seconds"] < 3)


def test_nothing_of_a_request_is_in_it(serve):
    """No key, no path, no method, no header of a caller gets into the metrics."""
    server = serve(WEB_CONCURRENCY="1")
    key = server.admin_key
    for path in ("/v1/models/zebra", "/zebra", "/admin/zebra", "/v1beta/models/zebra"):
        for method in ("GET", "ZEBRA"):
            server(method, path, key=key)
            server(method, path, key="ro_zebra")
            server(method, f"{path}?zebra=zebra", anthropic_version="zebra", X_Request_ID="zebra")
    server("POST", "/admin/models", {"id": "zebra"}, key)
    server("GET", "/v1/models/zebra", key=key)
    text = server("GET", "/metrics").body.decode()

    assert 'route="/admin/models",status="201"' in text
    assert not [mark for mark in ("zebra", "ZEBRA", key[3:11], key[12:]) if mark in text]
