"""Imports into a real server: a child process of a worker reads large files, and readers go on."""

import http.client
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.sources.reading import MAX_FILE

pytestmark = pytest.mark.slow

#: A file that takes a child about a second.
ROWS = 4000


def wait_for(find):
    """Return what `find` finds, as soon as it finds something."""
    deadline = time.monotonic() + 30
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return found


def rows(count, **fields):
    """Return a file with so many models."""
    return "\n".join(json.dumps({"id": f"m{n}", **fields}) for n in range(count)).encode()


def send(server, body, query="", media_type="application/x-ndjson", **options):
    """Import a file, and return status and answer."""
    connection = server.connect()
    headers = {"Authorization": f"Bearer {server.admin_key}", "Content-Type": media_type}
    try:
        connection.request("POST", f"/admin/import{query}", body, headers, **options)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def children(server):
    """Return the child processes of the workers that have opened the database, to read it all."""

    def are_open(pid):
        try:
            # Until it runs its own program it has the files of the worker.
            if b"app.api.isolated" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return False
            names = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:  # it has ended
            return False
        return any("roster.db" in name for name in names)

    found = []
    for worker in server.workers():
        for task in Path(f"/proc/{worker}/task").glob("*/children"):
            found += [int(pid) for pid in task.read_text().split()]
    return [pid for pid in found if are_open(pid)]


@pytest.fixture
def background():
    """Return what calls a function in a thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def stored(server):
    return len(server("GET", "/v1/models").json["data"])


def test_readers_go_on(serve, background):
    """While 20,000 rows are imported, readers are answered; they see none or all of them."""
    server = serve()
    running = background(send, server, rows(20_000))
    wait_for(lambda: children(server))
    answered, seen = 0, set()
    with server.connections_to_each() as connections:
        while not running.done():
            for connection in connections:
                answer = server("GET", "/v1/models?limit=1000", connection=connection)
                assert 200 == answer.status
                seen.add(len(answer.json["data"]))
            answered += not running.done()
        status, report, _ = running.result()

    assert (200, 20_000) == (status, len(report["added"]))
    assert answered > 0
    assert {0} <= seen <= {0, 1000}
    assert 20_000 == stored(server)


def test_a_killed_child(serve, background):
    """Nothing of its file is stored, the answer is a 503, and the next import works."""
    server = serve()
    running = background(send, server, rows(ROWS))
    for pid in wait_for(lambda: children(server)):
        os.kill(pid, signal.SIGKILL)
    status, answer, _ = running.result()

    assert (503, "unavailable") == (status, answer["error"]["code"])
    assert "a change may have happened" in answer["error"]["message"]
    wait_for(lambda: "of /admin/import ended with -9." in server.err.read_text())
    assert 0 == stored(server)
    assert 200 == send(server, rows(ROWS))[0]
    assert ROWS == stored(server)


def test_a_killed_worker(serve, background):
    """Its child ends too, and stores nothing."""
    server = serve(WEB_CONCURRENCY="1")
    [worker] = server.workers()
    running = background(send, server, rows(ROWS))
    [child] = wait_for(lambda: children(server))
    os.kill(worker, signal.SIGKILL)
    with pytest.raises((http.client.HTTPException, OSError)):
        running.result()

    wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert 0 == stored(server)


def test_a_server_that_stops(serve, background):
    """It answers the import in hand, even if its child gets the signal as well."""
    server = serve()
    running = background(send, server, rows(ROWS))
    wait_for(lambda: children(server))
    os.killpg(server.process.pid, signal.SIGTERM)

    assert 200 == running.result()[0]
    assert 0 == server.process.wait(30)
    assert ROWS == stored(serve())


def test_two_at_once(serve, background):
    """A worker has one child; a second large file is a 503 that says when to try again."""
    server = serve(WEB_CONCURRENCY="1")
    running = background(send, server, rows(ROWS))
    wait_for(lambda: children(server))
    status, answer, headers = send(server, rows(ROWS))

    assert (503, "unavailable", "1") == (status, answer["error"]["code"], headers["Retry-After"])
    assert "is under way" in answer["error"]["message"]
    assert 200 == send(server, b'{"id": "small"}')[0]
    assert 200 == running.result()[0]


@pytest.fixture(scope="module")
def hostile(server):
    """Return what checks that a file is refused with a sentence, and nothing of it stored."""

    def check(expected, *arguments, **options):
        status, answer, _ = send(server, *arguments, **options)

        assert expected == (status, answer["error"]["code"])
        assert 10 < len(answer["error"]["message"]) < 1500
        assert 0 == stored(server)

    return check


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{" + b",".join([b'"a":1'] * 10**6) + b"}", id="a million duplicate keys"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="depth 10,000"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="objects of depth 10,000"),
        pytest.param(b'{"data":[{"id":"a","x":NaN}' + b" " * 20_000 + b"]}", id="NaN"),
        pytest.param(b'{"data":[' + b'{"id":"a"},' * 2000, id="cut off"),
        pytest.param(b"\xff" * 20_000, id="not UTF-8"),
        pytest.param(b"9" * 10**7, id="10 MB of digits"),
        pytest.param(b'["' + b"a" * 10**7, id="10 MB in an open string"),
    ],
)
def test_hostile_files(hostile, body):
    """What is no JSON is a 400, however large."""
    hostile((400, "invalid_json"), body, media_type="application/json")


def test_one_long_string(hostile):
    """10 MB as an id is refused for its id; as a whole file, for its format."""
    long = "a" * 10**7
    file = json.dumps({"object": "list", "data": [{"id": long}]}).encode()
    hostile((422, "rows_refused"), file, media_type="application/json")
    hostile((400, "invalid_value"), json.dumps(long).encode(), media_type="application/json")


def test_the_longest_body(hostile):
    """64 MiB are taken, with a length and in chunks, and one byte more is a 413."""
    whole = b"[" + b" " * (MAX_FILE - 2) + b"["
    assert MAX_FILE == len(whole)
    hostile((400, "invalid_json"), whole, media_type="application/json")
    pieces = [b" " * 2**20] * (MAX_FILE // 2**20)
    hostile((400, "invalid_value"), iter(pieces), encode_chunked=False)
    hostile((413, "request_too_large"), iter([*pieces, b" "]), encode_chunked=False)


def test_a_body_in_chunks(server):
    """A large file may come in chunks, without a length."""
    body = rows(ROWS)
    status, report, _ = send(server, iter([body[:9999], body[9999:]]), "?dry_run=1")

    assert (200, ROWS) == (status, len(report["added"]))


def test_a_body_that_is_cut_off(server):
    """A large body that ends early is a 400, and nothing of it is stored."""
    connection = server.connect()
    connection.putrequest("POST", "/admin/import")
    connection.putheader("Authorization", f"Bearer {server.admin_key}")
    connection.putheader("Content-Type", "text/plain")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"a\n" * 20_000)
    connection.sock.shutdown(1)
    response = connection.getresponse()

    assert (400, "invalid_body") == (response.status, json.loads(response.read())["error"]["code"])
    connection.close()
    assert 0 == stored(server)


def test_a_plan_that_was_read(serve):
    """A large file is applied at the revision of its dry run, and refused after a change."""
    server = serve()
    assert 200 == send(server, rows(ROWS))[0]
    query, file = "?on_conflict=update", rows(ROWS, max_model_len=8192)
    revision = send(server, file, f"{query}&dry_run=1")[1]["revision"]
    assert 200 == server.admin("PATCH", "/admin/models/m7", {"name": "Seven"}).status

    status, answer, _ = send(server, file, f"{query}&revision={revision}")
    assert (409, "plan_changed") == (status, answer["error"]["code"])
    revision = send(server, file, f"{query}&dry_run=1")[1]["revision"]
    status, report, _ = send(server, file, f"{query}&revision={revision}")
    assert (200, ROWS) == (status, len(report["changed"]))
