"""Fixtures: the shipped nginx site before a gunicorn on a Unix socket, and before an echo."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

ROOT = Path(__file__).parents[2]
SITE = (ROOT / "deploy" / "nginx" / "roster.conf").read_text()
GUNICORN = Path(sys.executable).with_name("gunicorn")
PATIENCE = 30.0  # seconds
#: Changes of the site that take its limits out of the way.
UNLIMITED = {"rate=300r/s": "rate=1000000r/s", "rate=10r/s": "rate=1000000r/s"}


@contextmanager
def running(command, **options):
    """Run a server, and end it by its own process id."""
    options = {"cwd": ROOT, "start_new_session": True, **options}
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def gunicorn_in(folder, command=(GUNICORN,), **options):
    """Run a gunicorn in a folder: s, its socket, pid, err, and out, its access lines."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("ROSTER_")}
    given = {"ROSTER_INSTANCE_PATH": str(folder), "ROSTER_BIND": f"unix:{folder}/s"}
    options["env"] = inherited | given | options.pop("environ", {})
    with (
        (folder / "out").open("ab") as out,
        (folder / "err").open("ab") as err,
        running(command, stdout=out, stderr=err, **options) as process,
    ):
        before, deadline = out.tell(), time.monotonic() + PATIENCE
        while b"Roster " not in (folder / "out").read_bytes()[before:]:  # printed when it listens
            assert process.poll() is None, (folder / "err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (folder / "pid").write_text(str(process.pid))
        yield folder


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory):
    """Return the folder of a gunicorn that the tests of a file share; it has one worker."""
    with gunicorn_in(tmp_path_factory.mktemp("g"), environ={"WEB_CONCURRENCY": "1"}) as folder:
        yield folder


@pytest.fixture
def own_gunicorn(tmp_path_factory):
    """Return the folder of a gunicorn that a test has for itself."""
    with gunicorn_in(tmp_path_factory.mktemp("g")) as folder:
        yield folder


@pytest.fixture(scope="session")
def run_gunicorn(tmp_path_factory):
    """Return what runs a gunicorn in a folder of its own, on a database if one is given.

    It may serve another `application` than the shipped one, and have other settings.
    """

    @contextmanager
    def run(database=None, application=None, **environ):
        if database is not None:
            environ["ROSTER_DATABASE_URL"] = database
        command = (GUNICORN,) if application is None else (GUNICORN, application)
        with gunicorn_in(tmp_path_factory.mktemp("g"), command, environ=environ) as folder:
            yield folder

    return run


@pytest.fixture
def activated():
    """Return what runs a gunicorn on a socket that was opened for it, as systemd starts one."""

    @contextmanager
    def run(listener, folder, release=None, **environ):
        gunicorn = GUNICORN if release is None else release / ".venv" / "bin" / "gunicorn"
        become = f"exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec {gunicorn}"
        options = {"cwd": release or ROOT, "pass_fds": [listener.fileno()], "environ": environ}
        with gunicorn_in(folder, ["bash", "-c", become], **options):
            yield

    return run


@pytest.fixture
def at_socket(site_at):
    """Return what makes a client of whatever answers on a Unix socket."""

    class AtSocket(site_at):
        def __init__(self, path):
            super().__init__(None)
            self.path = path

        def connect(self):
            connection = super().connect()
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(str(self.path))
            return connection

    return AtSocket


@pytest.fixture
def direct(gunicorn, at_socket):
    """The application itself, with a list long enough to be compressed."""
    site = at_socket(gunicorn / "s")
    site.admin_key = (gunicorn / "admin-key").read_text().strip()
    for model_id in ("acme%2Fcoder%20x", *"abcdefgh"):
        assert site("PUT", f"/admin/models/{model_id}", {}, site.admin_key).status in (200, 201)
    return site


@pytest.fixture
def nginx(tmp_path, site_at):
    """Start nginx with the shipped site, before one socket or several.

    Its settings are as unkind as an operator's may be; its limits are out of the way, unless
    `changes` bring some. They are texts of the site, each with the text that replaces it. A page
    of the documentation may bring another `text`.
    """
    with ExitStack() as stack:

        def start(*upstreams, micro_cache="off", changes=None, text=SITE, user="root"):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            for shipped, here in {
                "server unix:/run/roster/roster.sock;": "".join(
                    f"server unix:{upstream};" for upstream in upstreams
                ),
                "listen 80;": f"listen 127.0.0.1:{port};",
                "proxy_cache_path /run/nginx-roster ": f"proxy_cache_path {tmp_path}/cache ",
                "set $roster_micro_cache off;": f"set $roster_micro_cache {micro_cache};",
                "error_log /var/log/nginx/error.log ": f"error_log {tmp_path}/errors ",
                "/var/log/nginx/roster-refusals.jsonl": f"{tmp_path}/refusals",
                **UNLIMITED,
                **(changes or {}),
            }.items():
                assert 1 == text.count(shipped), shipped
                text = text.replace(shipped, here)
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
            page = (ROOT / "docs" / "operations.md").read_text()
            [nofile] = re.findall(r"worker_rlimit_nofile \d+;", page)
            [connections] = re.findall(r"worker_connections \d+;", page)
            (tmp_path / "nginx.conf").write_text(
                # As root, its workers must reach the socket all the same.
                f"{'' if os.geteuid() else f'user {user};'} daemon off; pid {tmp_path}/pid;\n"
                f"worker_processes 2; {nofile} events {{ {connections} }}\n"
                f"http {{ access_log {tmp_path}/log; gzip on;\n"
                f"gzip_types application/json; gzip_proxied any;\n{temporary}{text} }}\n"
            )
            options = ["-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"]
            stack.enter_context(running(["nginx", *options], stderr=subprocess.DEVNULL))
            site = site_at(port)
            site.wait()
            return site

        yield start
    errors = (tmp_path / "errors").read_text()
    assert not [level for level in ("[warn]", "[alert]", "[emerg]") if level in errors], errors


@pytest.fixture(params=["off", "on"])
def site(request, nginx, gunicorn, direct):
    """The site, with its micro-cache off, as shipped, or on."""
    site = nginx(gunicorn / "s", micro_cache=request.param)
    site.micro_cache = request.param

    def add(model_id, **fields):
        added = site("POST", "/admin/models", {"id": model_id, **fields}, direct.admin_key)
        assert 201 == added.status, added.body
        return f"/v1/models/{model_id}"

    site.add = add
    return site


@pytest.fixture
def keeping(nginx):
    """Return what starts the site with a micro-cache that keeps its answers for an hour.

    What it keeps of one caller is there for the next one, however slow the machine is.
    """

    def start(upstream, changes=None):
        kept = {"proxy_cache_valid 200 1s;": "proxy_cache_valid 200 1h;"}
        return nginx(upstream, micro_cache="on", changes=kept | (changes or {}))

    return start


@pytest.fixture
def heard(gunicorn, direct):
    """Return what tells the access lines of the one worker by now, which come in order."""

    def lines():
        last = direct("GET", "/healthz").headers["x-request-id"]
        deadline = time.monotonic() + PATIENCE
        # It comes a moment later, and perhaps not at once.
        while last not in (text := (gunicorn / "out").read_text()) or not text.endswith("\n"):
            assert time.monotonic() < deadline, text
            time.sleep(0.01)
        told = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in told if line["route"] != "/healthz"]

    return lines


@pytest.fixture
def reached(heard, site):
    """Return what tells the statuses of the application's answers since it was last asked."""
    seen = len(heard())

    def since():
        nonlocal seen
        new = heard()[seen:]
        seen += len(new)
        return [line["status"] for line in new]

    return since


@pytest.fixture
def echo(tmp_path, nginx):
    """An application that answers with what it saw; one that says x-roster-stale or is down."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        seen, connections, down = [], count(), False

        def setup(self):
            next(self.connections)
            super().setup()

        def do_GET(self):
            self.seen.append(self.requestline)
            if self.down or self.command == "POST":
                self.close_connection = True
                return
            body = json.dumps([[name.lower(), value] for name, value in self.headers.items()])
            self.send_response(200)
            self.send_header("Cache-Control", "public, no-cache")
            self.send_header("Content-Length", str(len(body)))
            if "stale" in self.path:
                self.send_header("x-roster-stale", "0")
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - the name http.server asks for

        def log_message(self, *_):
            pass

    with ThreadingUnixStreamServer(str(tmp_path / "s"), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site = nginx(tmp_path / "s", micro_cache="on")
        site.behind = Handler
        yield site
        server.shutdown()
        thread.join()
