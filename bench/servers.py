"""The servers that are compared: Roster, gunicorn with a yardstick, nginx."""

import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.client import fetch
from bench.plan import ROOT
from bench.processes import (
    Server,
    ServerFailed,
    free_port,
    listening_port,
    process,
    wait_for_port,
    wait_for_socket,
)

#: The site that is shipped.
SITE = ROOT / "deploy" / "nginx" / "roster.conf"

#: The micro-cache lies in memory, as it is shipped.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it

_GUNICORN = Path(sys.executable).with_name("gunicorn")
_numbers = itertools.count(1)


@contextmanager
def roster(
    instance: Path,
    *,
    workers: int = 1,
    unix: bool = False,
    log: bool = False,
    tree: Path = ROOT,
    **settings: str,
) -> Iterator[Server]:
    """Serve `instance` as ``gunicorn`` with no argument does; the access log is discarded.

    With `log` it goes to a file: `Server.out`. `settings` are environment variables. Another
    `tree` serves with its own code and environment.
    """
    own = tree / ".venv" / "bin" / "python"
    command = [_GUNICORN] if tree == ROOT else [own, "-m", "gunicorn"]
    number = next(_numbers)
    err = instance / f"stderr-{number}"
    out = instance / f"stdout-{number}" if log else Path(os.devnull)
    socket = instance / f"roster-{number}.sock"
    environ = {
        "ROSTER_INSTANCE_PATH": str(instance),
        "ROSTER_BIND": f"unix:{socket}" if unix else "127.0.0.1:0",
        "WEB_CONCURRENCY": str(workers),
        "ROSTER_THREADS": "4",
        **settings,
    }
    with process(command, err=err, environ=environ, out=out, folder=tree) as started:
        if unix:
            wait_for_socket(started, err, socket)
            yield Server(started.pid, socket=socket, out=out, err=err)
            return
        port = listening_port(started, err)
        _answering(port, "/healthz", err)
        yield Server(started.pid, port, out=out, err=err)


@contextmanager
def yardstick(folder: Path, name: str, **environ: str) -> Iterator[Server]:
    """Serve an application of ``bench.yardsticks`` by the same gunicorn."""
    err = folder / f"{name}-{next(_numbers)}.err"
    command = [
        _GUNICORN,
        "--config",
        "python:bench.yardsticks.serving",
        "--bind",
        "127.0.0.1:0",
        f"bench.yardsticks.{name}:app",
    ]
    with process(command, err=err, environ=environ) as started:
        port = listening_port(started, err)
        _answering(port, "/v1/models", err)
        yield Server(started.pid, port)


@contextmanager
def nginx_static(folder: Path, body: Path, compressed: Path | None) -> Iterator[Server]:
    """Serve the bytes as a file: ``/v1/models``, and compressed ones as ``/gzip``."""
    port = free_port()
    gzip = (
        ""
        if compressed is None
        else f"location = /gzip {{ alias {compressed}; add_header Content-Encoding gzip; }}"
    )
    site = f"""
        server {{
            listen 127.0.0.1:{port};
            location = /v1/models {{ alias {body}; }}
            {gzip}
        }}"""
    with _nginx(folder, site, port) as server:
        yield server


@contextmanager
def nginx_front(folder: Path, behind: Server, *, cached: bool) -> Iterator[Server]:
    """Serve a Roster on a Unix socket through the shipped site, the micro-cache off or on."""
    port = free_port()
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else folder
    with tempfile.TemporaryDirectory(prefix="roster-bench-", dir=memory) as cache:
        text = shipped_site(SITE.read_text(), behind.socket, port, Path(cache))
        with _nginx(folder, turned_on(text) if cached else text, port) as server:
            server.behind = (behind,)
            _answering(port, "/v1/models", behind.err)
            yield server


def shipped_site(text: str, socket: Path, port: int, cache: Path) -> str:
    """Return the shipped site with ports and paths of this run, and its limits out of the way."""
    places = (
        (r"^(\s*)listen\s[^;]*;", rf"\1listen 127.0.0.1:{port};"),
        (r"^(\s*server\s+)unix:[^;\s]+", rf"\1unix:{socket}"),
        (r"^(\s*proxy_cache_path\s+)\S+", rf"\1{cache}"),
        (r"^(\s*access_log\s)[^;]*;", r"\1off;"),
        (r"^(\s*error_log\s)[^;]*;", r"\1stderr;"),
        (r"\brate=\d+r/s;", "rate=1000000r/s;"),
    )
    for place, ours in places:
        text = re.sub(place, ours, text, flags=re.MULTILINE)
    return text


def turned_on(text: str) -> str:
    """Return the site with the micro-cache: the one line that says ``off`` says ``on``."""
    text, changed = re.subn(r"(set \$roster_micro_cache) off;", r"\1 on;", text)
    if changed != 1:
        raise ServerFailed("the shipped site has no line that turns its micro-cache on")
    return text


@contextmanager
def _nginx(folder: Path, site: str, port: int) -> Iterator[Server]:
    own = folder / f"nginx-{next(_numbers)}"
    own.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""  # it must reach the socket
    temporary = "\n".join(
        f"{kind}_temp_path {own / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = own / "nginx.conf"
    config.write_text(f"""
        {user}
        daemon off;
        worker_processes 1;
        pid {own / "pid"};
        error_log stderr warn;
        events {{ worker_connections 1024; }}
        http {{
            default_type application/json;
            access_log off;
            sendfile on;
            tcp_nopush on;
            keepalive_requests 1000000;
            {temporary}
            {site}
        }}""")
    err = own / "stderr"
    command = ["nginx", "-p", own, "-c", config, "-e", err]
    with process(command, err=err) as started:
        wait_for_port(started, err, port)
        yield Server(started.pid, port)


def _answering(port: int, path: str, err: Path) -> None:
    answer = fetch(port, path)
    if answer.status != 200:
        said = err.read_text(errors="replace")[-3000:]
        raise ServerFailed(f"{path} was answered with {answer.status}; the log ends:\n{said}")
