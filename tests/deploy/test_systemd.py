"""The units: in order, tight, and with all that Roster needs to run as they say."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import pytest

from app.catalog.keys import mint
from app.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
BIN = Path(sys.executable).parent
PATIENCE = 30.0  # seconds

pytestmark = pytest.mark.needs("systemd-analyze", "systemd")


def analyze(*arguments):
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_units_are_in_order(tmp_path):
    """systemd has nothing to say to them."""
    for unit in UNITS.glob("roster*.*"):
        text = unit.read_text().replace("/opt/roster/current/.venv/bin", str(BIN))
        (tmp_path / unit.name).write_text(text.replace("/opt/roster/current", str(ROOT)))

    assert (0, "") == analyze("verify", *tmp_path.iterdir())


@pytest.mark.parametrize("unit", ["roster.service", "roster-import@.service"])
def test_the_services_are_tightly_boxed(unit):
    """Their exposure is at most 2.0 of 10, as systemd counts."""
    _, table = analyze("security", "--offline=yes", str(UNITS / unit))
    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", table)

    assert float(exposure) <= 2.0


def test_an_import_has_the_sandbox_and_the_data_of_the_service():
    """What one of the two may do, the other may: only the network is open to an import."""
    sandboxes = [
        (UNITS / unit).read_text().partition("RestrictAddressFamilies=")[2].partition("\n[")[0]
        for unit in ("roster.service", "roster-import@.service")
    ]

    assert sandboxes[0].strip() == sandboxes[1].strip()
    for key in ("User", "StateDirectory", "StateDirectoryMode", "WorkingDirectory", "LimitCORE"):
        assert values("roster.service", key) == values("roster-import@.service", key)
    assert [] == values("roster-import@.service", "IPAddressDeny")


def test_the_site_asks_where_the_socket_is():
    """nginx and systemd name the same path, and nginx's group may connect."""
    [path] = values("roster.socket", "ListenStream")

    assert f"server unix:{path};" in (ROOT / "deploy" / "nginx" / "roster.conf").read_text()
    assert (["www-data"], ["0660"]) == (
        values("roster.socket", "SocketGroup"),
        values("roster.socket", "SocketMode"),
    )


def test_memory_is_bounded_and_in_no_core_dump():
    """The bound leaves room for two workers with full caches, their successors, and two imports.

    A worker with 100,000 entries takes 242 MiB, an import of as many 500 more in a process of its
    own, and 64 for its body. Where the bound is reached all the same, the kernel ends a process,
    and gunicorn replaces a worker: systemd does not stop the service.
    """
    [bound] = values("roster.service", "MemoryMax")
    settings = Settings()
    of_import = (242 + 500 + 64) << 20
    needed = 2 * settings.workers * (settings.cache_bytes + (242 << 20)) + 2 * of_import

    assert needed <= int(bound.removesuffix("G")) << 30 <= 2 * needed
    assert ["continue"] == values("roster.service", "OOMPolicy")
    assert ["0"] == values("roster.service", "LimitCORE")
    assert ["1G"] == values("roster-import@.service", "MemoryMax")
    assert of_import < 1 << 30


def values(unit, key):
    """Return the values of each line of a unit that begins with `key`."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def system_calls(group):
    """Return the names of the system calls in a group of systemd's, and in those within it."""
    _, shown = analyze("syscall-filter", group)
    names = set()
    for line in shown.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            names |= system_calls(name)
        elif name and not name.startswith("#"):
            names.add(name)
    return names


def allowed(unit="roster.service"):
    """Return the names of the system calls that a service may use."""
    names = set()
    for line in values(unit, "SystemCallFilter"):
        for group in line.removeprefix("~").split():
            names = names - system_calls(group) if line[0] == "~" else names | system_calls(group)
    return names


def test_a_service_starts_reloads_and_stops_as_its_unit_says(tmp_path, at_socket):
    """With the unit's environment, credential, socket and system calls, and nothing else."""
    credentials, state = tmp_path / "credentials", tmp_path / "roster"
    for folder in (credentials, state):
        folder.mkdir()
    (credentials / "admin-key").write_text(key := mint())
    (credentials / "admin-key").chmod(0o400)
    path, notified = tmp_path / "s", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(PATIENCE)
    environ = dict(line.split("=", 1) for line in values("roster.service", "Environment"))
    for name, value in environ.items():
        environ[name] = value.replace("%S", str(tmp_path)).replace("%d", str(credentials))
    [command] = values("roster.service", "ExecStart")
    command = command.replace("/opt/roster/current/.venv/bin", str(BIN))
    with socket.socket(socket.AF_UNIX) as listener, notified, (tmp_path / "log").open("wb") as log:
        listener.bind(str(path))
        listener.listen()
        sandboxed = [sys.executable, str(ROOT / "tests" / "deploy" / "sandboxed.py")]
        service = subprocess.Popen(
            ["bash", "-c", f"exec {shlex.join(sandboxed)} {command} 3<&{listener.fileno()}"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "LISTEN_FDS": "1",
                **environ,
            },
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        try:
            service.stdin.write("\n".join(allowed()).encode())
            service.stdin.close()

            assert b"READY=1" in notified.recv(4096), (tmp_path / "log").read_text()
            site = at_socket(path)
            assert 201 == site("POST", "/admin/models", {"id": "a"}, key).status
            assert (state / "roster.db").exists()
            assert not (state / "admin-key").exists()

            [reload] = values("roster.service", "ExecReload")
            before = (tmp_path / "log").read_text().count("Booting worker")
            subprocess.run(reload.replace("$MAINPID", str(service.pid)).split(), check=True)
            deadline = time.monotonic() + PATIENCE
            while (tmp_path / "log").read_text().count("Booting worker") < before + 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert ["a"] == [entry["id"] for entry in site("GET", "/v1/models").json["data"]]
        finally:
            service.send_signal(signal.SIGTERM)

        assert 0 == service.wait(PATIENCE)
        assert path.exists()
    for line in (tmp_path / "log").read_text().splitlines():
        if line.startswith("{") and "level" in (record := json.loads(line)):
            assert record["level"] in ("info", "debug"), line


class Source(BaseHTTPRequestHandler):
    """A list of models, unless the path says that there is none."""

    def do_GET(self):
        found = self.path == "/v1/models"
        body = b'{"object":"list","data":[{"id":"a","object":"model","owned_by":"x"}]}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def run_import(tmp_path):
    """Return what imports from a path as the unit says: its environment and its system calls."""
    unit = "roster-import@.service"
    environ = dict(line.split("=", 1) for line in values(unit, "Environment"))
    environ = {name: value.replace("%S", str(tmp_path)) for name, value in environ.items()}
    (tmp_path / "roster").mkdir()
    (key := tmp_path / "admin-key").write_text(mint())
    key.chmod(0o400)
    sandboxed = [sys.executable, str(ROOT / "tests" / "deploy" / "sandboxed.py")]
    names = "\n".join(allowed(unit))

    def run(command, **more):
        line = Template(command.replace("/opt/roster/current/.venv/bin", str(BIN)))
        words = line.substitute(environ | more).replace("%i", "test").split()
        return subprocess.run(
            [*sandboxed, *words],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environ, **more},
            input=names,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    [command] = values(unit, "ExecStart")
    with ThreadingHTTPServer(("127.0.0.1", 0), Source) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        flask = command.partition(" ")[0]
        try:
            # The service makes the database, with the key that an import cannot read.
            upgraded = run(f"{flask} db upgrade", ROSTER_ADMIN_KEY_FILE=str(key))
            assert 0 == upgraded.returncode, upgraded.stderr
            yield lambda path: run(command, URL=url + path), lambda: run(f"{flask} models list")
        finally:
            server.shutdown()
            thread.join()


def test_an_import_succeeds_or_fails_as_its_unit_says(run_import, app):
    """What the source lists is in the catalogue; where it lists nothing, the unit has failed."""
    if "import" not in app.cli.commands["models"].commands:
        pytest.skip("'flask models import' is not there yet")
    run, listed = run_import
    done = run("/v1/models")

    assert 0 == done.returncode, done.stderr
    assert re.search(r"^a .* x ", listed().stdout, re.MULTILINE)
    failed = run("/nowhere")
    assert (1, True) == (failed.returncode, "answered 404" in failed.stderr)
