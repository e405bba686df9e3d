"""The units: in order, tight, and with all that Roster needs to run as they say."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.catalog.keys import mint
from app.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
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
    for unit in UNITS.glob("roster.*"):
        text = unit.read_text().replace("/opt/roster/current", str(ROOT))
        (tmp_path / unit.name).write_text(
            text.replace(f"{ROOT}/.venv/bin/gunicorn", str(gunicorn()))
        )

    assert (0, "") == analyze("verify", *tmp_path.iterdir())


def test_the_service_is_tightly_boxed():
    """Its exposure is at most 2.0 of 10, as systemd counts."""
    _, table = analyze("security", "--offline=yes", str(UNITS / "roster.service"))
    [exposure] = re.findall(r"Overall exposure level for roster.service: ([\d.]+)", table)

    assert float(exposure) <= 2.0


def test_the_site_asks_where_the_socket_is():
    """nginx and systemd name the same path, and nginx's group may connect."""
    [path] = values("roster.socket", "ListenStream")

    assert f"server unix:{path};" in (ROOT / "deploy" / "nginx" / "roster.conf").read_text()
    assert (["www-data"], ["0660"]) == (
        values("roster.socket", "SocketGroup"),
        values("roster.socket", "SocketMode"),
    )


def test_memory_is_bounded_and_in_no_core_dump():
    """The bound leaves room for two workers with full caches and their successors in a reload.

    A worker with 100,000 entries takes 242 MiB. Where the bound is reached all the same, the
    kernel ends a worker, and gunicorn replaces it: systemd does not stop the service.
    """
    [bound] = values("roster.service", "MemoryMax")
    settings = Settings()
    needed = 2 * settings.workers * (settings.cache_bytes + (242 << 20))

    assert needed <= int(bound.removesuffix("G")) << 30 <= 2 * needed
    assert ["continue"] == values("roster.service", "OOMPolicy")
    assert ["0"] == values("roster.service", "LimitCORE")


def gunicorn():
    return Path(sys.executable).with_name("gunicorn")


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


def allowed():
    """Return the names of the system calls that the service may use."""
    names = set()
    for line in values("roster.service", "SystemCallFilter"):
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
    command = command.replace("/opt/roster/current/.venv/bin/gunicorn", str(gunicorn()))
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
