"""How gunicorn starts: what it says, what it refuses, what it loads anew."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path

import pytest
from gunicorn.http.errors import NoMoreData

from app.store.schema import HEAD
from app.store.sqlite.connection import sqlite
from app.store.store import Store

ROOT = Path(__file__).parents[2]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def refusal(server, request):
    """Send a malformed request and return the new request id of its refusal."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        with HTTPResponse(connection) as response:
            response.begin()
    request_id = response.headers["x-request-id"]

    assert 400 == response.status
    assert request_id == response.headers["request-id"]
    assert re.fullmatch("req_[0-9A-Za-z]{24}", request_id)
    return request_id


def gunicorn(**environ):
    """Run a gunicorn that is expected to refuse."""
    return subprocess.run(
        [Path(sys.executable).with_name("gunicorn")],
        cwd=ROOT,
        env={**os.environ, "ROSTER_BIND": "127.0.0.1:0", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_start_block_is_printed_once(serve):
    """Two workers start, and one block says what runs, where, on what and what to try."""
    server = serve()
    block = [line for line in server.out.read_text().splitlines() if not line.startswith("{")]
    expected = [
        r"Roster \d+\.\d+\.\d+ at http://127\.0\.0\.1:\d+",
        rf"  database   \S+/roster\.db, schema {HEAD}, 0 entries",
        r"  admin key  \S+/admin-key",
        r"  try        curl http://127\.0\.0\.1:\d+/v1/models",
    ]

    assert re.fullmatch("\n".join(expected), "\n".join(block))
    assert 2 == len(server.workers())
    assert server.admin_key not in server.out.read_text() + server.err.read_text()


def test_bad_settings_stop_the_start_all_at_once(tmp_path):
    """Every bad variable is named with its value and range, and nothing is made."""
    refused = gunicorn(
        ROSTER_INSTANCE_PATH=str(tmp_path / "i"),
        ROSTER_AUTH="maybe",
        ROSTER_THREADS="0",
        WEB_CONCURRENCY="65",
    )

    assert 1 == refused.returncode
    assert "ROSTER_AUTH='maybe': must be optional, required or off" in refused.stderr
    assert "ROSTER_THREADS='0': must be 1 to 64 threads" in refused.stderr
    assert "WEB_CONCURRENCY='65': must be 1 to 64 processes" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "i").exists()


@pytest.mark.slow
@pytest.mark.parametrize("taken", [True, False])
def test_an_address_that_cannot_be_bound_is_named_with_its_setting(tmp_path, taken):
    """The last line of a start that is given up says why, and what to do; it is said once."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}" if taken else "192.0.2.1:8000"
        refused = gunicorn(ROSTER_INSTANCE_PATH=str(tmp_path), ROSTER_BIND=address)
    why = "[Errno 98] Address already in use"
    if not taken:
        why = "[Errno 99] Cannot assign requested address"
    errors = [json.loads(line) for line in refused.stderr.splitlines()]
    errors = [line["message"] for line in errors if line["level"] == "error"]

    assert 1 == refused.returncode
    assert errors[-1] == (
        f"Cannot listen at {address}: {why}. Stop what listens there, or set ROSTER_BIND to "
        "another one: an address of this host, and a port from 1024 on unless root starts it."
    )
    assert 2 == len(errors)


@pytest.mark.slow
def test_a_socket_that_cannot_be_made_is_named_with_its_setting(tmp_path):
    """Where its folder is missing, the last line says so."""
    bind = f"unix:{tmp_path}/absent/s"
    refused = gunicorn(ROSTER_INSTANCE_PATH=str(tmp_path), ROSTER_BIND=bind)

    assert (
        f"Cannot listen at {tmp_path}/absent/s: [Errno 2] No such file or directory. Make its "
        "folder, or set ROSTER_BIND to a path in a folder of this user."
    ) == json.loads(refused.stderr.splitlines()[-1])["message"]


@pytest.mark.slow
def test_an_unknown_setting_is_one_warning(serve):
    """A variable that is no setting is warned of, and the nearest one named."""
    server = serve(ROSTER_PORT="tcp://10.0.0.1:80")
    warnings = [line["message"] for line in lines(server.err) if line["level"] == "warning"]

    assert ["ROSTER_PORT is no setting of Roster and is ignored; nearest: ROSTER_AUTH."] == [
        re.sub(r"nearest: ROSTER_\w+", "nearest: ROSTER_AUTH", line) for line in warnings
    ]


def test_a_corrupt_database_stops_the_start(tmp_path):
    """A file that is no database is refused with a sentence, and left as it is."""
    content = b"not a database, " * 512
    (tmp_path / "roster.db").write_bytes(content)
    refused = gunicorn(ROSTER_INSTANCE_PATH=str(tmp_path))

    assert 0 != refused.returncode
    assert "is damaged (file is not a database): 'flask db restore FILE' puts" in refused.stderr
    assert content == (tmp_path / "roster.db").read_bytes()


def test_the_access_line_says_what_was_asked_of_whom(serve):
    """Each request leaves one line of JSON on stdout, with the kid and never the key."""
    server = serve(WEB_CONCURRENCY="1")
    key = server.admin("POST", "/admin/keys", {"name": "n"}).json["key"]
    answers = [
        server("GET", "/v1/models?secret=1", key=key, X_Request_ID="mine"),
        server("HEAD", "/v1/models/absent/id"),
        server("GET", "/v1/models", key="ro_wrong"),
    ]
    written = [server.access_line(answer) for answer in answers]
    listed, absent, wrong = [
        {name: line[name] for name in line if name not in ("at", "us", "request_id", "pid")}
        for line in written
    ]
    common = {"dialect": "openai", "method": "GET", "route": "/v1/models", "kid": None}
    common |= {"client": "127.0.0.1", "refused": None}

    assert {**common, "status": 200, "bytes": 42, "kid": key[3:11]} == listed
    assert {
        **common,
        "method": "HEAD",
        "route": "/v1/models/<path:model_id>",
        "status": 404,
        "bytes": 0,
    } == absent
    refused = {"status": 401, "bytes": wrong["bytes"], "refused": "malformed"}
    assert {**common, **refused} == wrong
    assert "mine" == written[0]["request_id"]
    assert written[0]["us"] > 0
    assert key not in server.out.read_text() + server.err.read_text()


def test_a_malformed_request_is_logged_by_its_kind(serve):
    """The line of a request that gunicorn refuses has its error and its id, and no text of it."""
    server = serve(WEB_CONCURRENCY="1")
    key = server.admin_key
    requests = [
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n {key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nBearer {key}\r\n\r\n",
        f"GET /?key={key} HTTP/1.1 {key[:-3]}\r\nHost: x\r\n\r\n",
    ]
    ids = [refusal(server, request) for request in requests]
    server.stop()
    text = server.err.read_text()
    found = [line for line in lines(server.err) if "request_id" in line]
    kinds = ["InvalidHeaderName", "ObsoleteFolding", "InvalidHeader", "InvalidHTTPVersion"]

    assert ids == [line["request_id"] for line in found]
    assert [f"Refused a request from 127.0.0.1: {kind}" for kind in kinds] == [
        line["message"] for line in found
    ]
    assert key[11:20] not in text
    assert all(line.startswith("{") for line in text.splitlines())


@pytest.mark.slow
def test_gunicorns_debug_lines_quote_no_request(serve):
    """A request that ends within a key that nobody can recognize is named by its error alone."""
    server = serve(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--log-level debug")
    secret = server.admin_key[12:]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET /v1/models?%6bey={secret}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert b"" == connection.recv(1)
    server.stop()

    assert [f"Ignored premature client disconnection. {NoMoreData.__name__}"] == [
        line["message"] for line in lines(server.err) if "premature" in line["message"]
    ]
    assert secret not in server.err.read_text()


@pytest.mark.slow
def test_a_fault_of_the_service_is_no_refusal(serve, tmp_path):
    """The line about a 500 of gunicorn's own says so, with the error and the request id."""
    path = tmp_path / "socket"
    args = f"--bind 127.0.0.1:0 --bind unix:{path}"
    server = serve(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS=args)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.bind(b"\0\xff")  # gunicorn decodes the name of a peer as UTF-8
        connection.connect(str(path))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with HTTPResponse(connection) as response:
            response.begin()
    refused = refusal(server, "x\r\n\r\n")
    server.stop()
    found = [line for line in lines(server.err) if "request_id" in line]

    assert 500 == response.status
    assert [
        ("Failed to serve a request: UnicodeDecodeError", response.headers["x-request-id"]),
        ("Refused a request from 127.0.0.1: InvalidRequestLine", refused),
    ] == [(line["message"], line["request_id"]) for line in found]
    assert "Traceback" in found[0]["error"]


@pytest.mark.slow
def test_a_log_file_of_gunicorn_takes_its_lines_alone(serve, settings):
    """Ours go to standard error all the same, those of the process that prepares the store too."""
    store = Store(settings, time.time)
    store.open(create=True)
    store.close()
    connection = sqlite.connect(settings.database_path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (f"{HEAD + 1:04}",))
    connection.commit()
    connection.close()
    log = settings.instance_path / "gunicorn.log"
    server = serve("instance", WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS=f"--error-logfile {log}")
    server.stop()
    started = [line for line in lines(log) if line["message"].startswith("Starting gunicorn")]
    cautions = [line for line in lines(server.err) if "beside the newer" in line["message"]]

    assert [server.process.pid] == [line["pid"] for line in started]
    assert "gunicorn.error" not in {line["logger"] for line in lines(server.err)}
    assert 2 == len({line["pid"] for line in cautions})  # the first process and the worker


def test_a_header_name_with_an_underscore_is_ignored(serve):
    """As nginx does: it is no key, moves no path, and counts as a header like any other."""
    server = serve(WEB_CONCURRENCY="1")
    server.admin("POST", "/admin/models", {"id": "hidden", "permission": []})
    body = server("GET", "/v1/models").body

    def answer(path, **headers):
        connection = server.connect()
        connection.request("GET", path, headers=headers)
        answered = connection.getresponse()
        answered.body = answered.read()
        connection.close()
        return answered

    for name in ("session_id", "X_Api_Key", "Anthropic_Version", "SCRIPT_NAME", "HTTP_HOST", "_"):
        for value in ("x", server.admin_key, "/v1"):
            found = answer("/v1/models", **{name: value})
            assert (200, body) == (found.status, found.body)
    assert 401 == answer("/admin/models", Authorization_=f"Bearer {server.admin_key}").status
    for name in ("Transfer_Encoding", "Content_Length"):  # so they frame nothing
        found = answer("/v1/models", **{name: "chunked"})
        assert (200, body) == (found.status, found.body)
    for headers in ({"SCRIPT_NAME": "/public"}, {"PATH_INFO": "/admin/models"}):
        assert 404 == answer("/public/healthz", **headers).status
    forged = answer("/v1/models", X_Forwarded_For="192.0.2.7").headers["x-request-id"]
    few, many = ({f"a_{number}": "x" for number in range(count)} for count in (60, 70))
    assert (200, 431) == (answer("/v1/models", **few).status, answer("/v1/models", **many).status)
    server.stop()
    found = {line["request_id"]: line["client"] for line in lines(server.out)}
    assert "127.0.0.1" == found[forged]


def test_hup_replaces_every_worker(serve):
    """After HUP other workers serve the same catalogue, and no request is lost."""
    server = serve()
    server.admin("POST", "/admin/models", {"id": "x"})
    before = set(server.workers())
    os.kill(server.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 30
    while before & set(server.workers()) and time.monotonic() < deadline:
        assert 200 == server("GET", "/v1/models/x").status

    assert set() == before & set(server.workers())
    assert 200 == server("GET", "/v1/models/x").status
    request_id = refusal(server, "x\r\n\r\n")
    server.stop()
    assert [request_id] == [
        line["request_id"] for line in lines(server.err) if "request_id" in line
    ]


def test_the_master_holds_none_of_our_code():
    """The configuration imports nothing of the application, so that HUP can replace it."""
    code = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py');"
        "sys.exit(any(name == 'app' or name.startswith('app.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)

    assert 0 == done.returncode


def test_a_unix_socket_is_for_owner_and_group(tmp_path):
    """Strangers on the host cannot connect; a client without a name of its own is on this host."""
    path = tmp_path / "socket"
    environ = {"ROSTER_INSTANCE_PATH": str(tmp_path), "ROSTER_BIND": f"unix:{path}"}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("gunicorn")],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    block = [process.stdout.readline() for _ in range(4)]
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")

        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    for name, is_local in ((None, True), ("name", False), ("\0name", False)):
        with socket.socket(socket.AF_UNIX) as connection:
            if name is not None:
                connection.bind(name if name[0] == "\0" else str(tmp_path / name))
            connection.connect(str(path))
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with HTTPResponse(connection) as response:
                response.begin()

                assert is_local == ("entries" in json.load(response))
    assert 0o770 == stat.S_IMODE(path.stat().st_mode)
    assert f"  try        curl --unix-socket {path} http://localhost/v1/models\n" == block[-1]
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert f"At {path}, only user {os.geteuid()} and group {os.getegid()} can connect" in errors


def test_a_long_chunked_body_is_a_413(serve):
    """A body without a length is measured too: 64 KiB passes, one byte more does not."""
    server = serve(WEB_CONCURRENCY="1")

    def post(size):
        connection = server.connect()
        headers = {
            "Authorization": f"Bearer {server.admin_key}",
            "Content-Type": "application/json",
            "Transfer-Encoding": "chunked",
        }
        body = b'{"id":"x"}'.ljust(size)
        connection.request("POST", "/admin/models", iter([body]), headers, encode_chunked=True)
        status = connection.getresponse().status
        connection.close()
        return status

    assert [413, 413, 201] == [post(200_000), post(64 * 1024 + 1), post(64 * 1024)]


def test_a_worker_makes_no_empty_catalogue(serve):
    """When the file is lost, readers are served, writers told, and new workers wait for it."""
    server = serve(WEB_CONCURRENCY="1")
    server.admin("POST", "/admin/models", {"id": "x"})
    assert 200 == server("GET", "/v1/models/x").status
    moved = server.instance / "moved"
    moved.mkdir()
    for path in server.instance.glob("roster.db*"):
        path.rename(moved / path.name)

    deadline = time.monotonic() + 30
    while "x-roster-stale" not in (stale := server("GET", "/v1/models")).headers:
        assert time.monotonic() < deadline
    assert (200, ["x"]) == (stale.status, [entry["id"] for entry in stale.json["data"]])
    assert 503 == server.admin("POST", "/admin/models", {"id": "y"}).status
    [worker] = server.workers()
    os.kill(worker, signal.SIGKILL)
    assert 503 == server("GET", "/v1/models").status
    assert [] == list(server.instance.glob("roster.db"))
    for path in moved.iterdir():
        path.rename(server.instance / path.name)
    while 200 != server("GET", "/v1/models/x").status:
        assert time.monotonic() < deadline
    assert 201 == server.admin("POST", "/admin/models", {"id": "y"}).status


@pytest.mark.slow
def test_an_idle_connection_is_kept_as_long_as_the_setting_says(serve):
    """A connection of a client that sends no more is closed after ROSTER_KEEPALIVE, not 75 s."""
    server = serve(WEB_CONCURRENCY="1", ROSTER_KEEPALIVE="1")
    with closing(server.connect()) as connection:
        server("GET", "/healthz", connection=connection)

        assert b"" == connection.sock.recv(1)  # PATIENCE is shorter than 75 s


@pytest.mark.slow
@pytest.mark.needs("prlimit", "util-linux")
def test_too_few_descriptors_for_the_threads_stop_the_start(tmp_path):
    """A server that could serve nobody does not start, and names the limit that is needed."""
    done = subprocess.run(
        ["prlimit", "--nofile=60", Path(sys.executable).with_name("gunicorn")],
        cwd=ROOT,
        env={**os.environ, "ROSTER_INSTANCE_PATH": str(tmp_path), "ROSTER_BIND": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == done.returncode
    assert "may open 60 files, and 4 threads need 61: raise the limit (ulimit -n)." in done.stderr
