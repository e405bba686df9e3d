"""How gunicorn stops: with a SQLite database that is one file."""

import json
import os
import resource
import shutil
import signal
from contextlib import closing

import pytest

from app import create_app
from app.settings import Settings
from app.store.sqlite.connection import sqlite


def fill(server):
    """Write entries and return the list."""
    for number in range(5):
        answer = server.admin("POST", "/admin/models", {"id": f"m{number}"})
        assert 201 == answer.status
    return server("GET", "/v1/models").body


def stop(server, name="SIGTERM"):
    """Stop a server and return the files that are left beside its database."""
    server.process.send_signal(signal.Signals[name])
    assert 0 == server.process.wait(30)
    return sorted(path.name for path in server.instance.glob("roster.db-*"))


def list_of(folder, clock):
    """Return the list that a new process serves from the database in `folder`."""
    app = create_app(Settings(instance_path=folder), clock)
    body = app.test_client().get("/v1/models").data
    app.extensions["roster"].store.close()
    return body


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGQUIT", marks=pytest.mark.slow)])
def test_a_stopped_servers_database_is_one_file(serve, tmp_path, clock, name):
    """A copy of the file alone, in another folder, serves the same list."""
    server = serve()
    listed = fill(server)

    assert [] == stop(server, name)
    (tmp_path / "copy").mkdir()
    shutil.copy(server.instance / "roster.db", tmp_path / "copy")
    assert listed == list_of(tmp_path / "copy", clock)
    assert [] == [line for line in server.err.read_text().splitlines() if '"warning"' in line]


@pytest.mark.slow
def test_the_log_of_a_killed_worker_is_written_too(serve, clock):
    """A worker that does not end in time is killed, and the master writes what it left."""
    server = serve(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--graceful-timeout 0")
    listed = fill(server)
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)

    assert [] == stop(server)
    assert listed == list_of(server.instance, clock)


@pytest.mark.slow
def test_a_stop_upgrades_nothing(serve):
    """The code on the disk may be newer by then: it writes the log into an older schema, too."""
    server = serve(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--graceful-timeout 0")
    fill(server)
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    path = server.instance / "roster.db"
    with closing(sqlite.connect(path)) as older:
        older.execute("UPDATE alembic_version SET version_num = '0002'")
        older.commit()

    assert ["roster.db-shm", "roster.db-wal"] == sorted(p.name for p in path.parent.glob("*.db-*"))
    assert [] == stop(server)
    with closing(sqlite.connect(path)) as older:
        assert [("0002",)] == older.execute("SELECT version_num FROM alembic_version").fetchall()


@pytest.mark.slow
def test_a_full_disk_does_not_hold_up_a_stop(serve, clock):
    """What cannot be written into the file stays in the log, and the next start has it."""
    server = serve(WEB_CONCURRENCY="1")
    listed = fill(server)
    limit = (8192, resource.RLIM_INFINITY)  # bytes, of any file
    for pid in (server.process.pid, *server.workers()):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    assert ["roster.db-shm", "roster.db-wal"] == stop(server)
    said = [json.loads(line) for line in server.err.read_text().splitlines()]
    assert (
        f"{server.instance}/roster.db-wal was not written into the database: keep both files."
    ) in [line["message"] for line in said if line["level"] == "warning"]
    assert listed == list_of(server.instance, clock)
