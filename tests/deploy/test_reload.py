"""New code and new releases under load: nobody notices."""

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from app.catalog.keys import mint

PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.needs("nginx", "nginx")


def workers_of(master):
    children = Path(f"/proc/{master}/task/{master}/children")
    return {int(pid) for pid in children.read_text().split()}


def stopping(log):
    """Return the workers that stopped because newer ones serve."""
    return {int(pid) for pid in re.findall(r'"pid": (\d+), "message": "Newer', log.read_text())}


def until(condition):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return met


class Load:
    """Readers and a writer on kept connections, each request counted by its outcome."""

    def __init__(self, site, admin_key):
        self.site = site
        self.admin_key = admin_key
        self.outcomes = Counter()
        self.written = []
        #: The slowest answer, in seconds.
        self.worst = 0.0
        self._over = threading.Event()

    def __enter__(self):
        self._threads = [threading.Thread(target=self._read) for _ in range(3)]
        self._threads.append(threading.Thread(target=self._write))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _read(self):
        connection = self.site.connect()
        while not self._over.wait(0.002):  # new workers need the processors, too
            self._count(connection, "GET", "/v1/models", newest=self.written[-1:])
        connection.close()

    def _write(self):
        connection = self.site.connect()
        for number in count():
            if self._over.is_set():
                break
            model_id = f"written-{number}"
            body = {"id": model_id}
            if 201 == self._count(connection, "POST", "/admin/models", body, self.admin_key):
                self.written.append(model_id)
            self._over.wait(0.02)
        connection.close()

    def _count(self, connection, *request, newest=()):
        """Send a request and count its outcome; an answer without the `newest` entry is stale."""
        began = time.monotonic()
        try:
            answer = self.site(*request, connection=connection)
            fresh = all(f'"{model_id}"'.encode() in answer.body for model_id in newest)
            outcome = "stale" if answer.status == 200 and not fresh else answer.status
        except OSError as error:
            outcome = repr(error)
            connection.close()
        self.worst = max(self.worst, time.monotonic() - began)
        self.outcomes[outcome] += 1
        return outcome

    def tell(self, what):
        """Print what was seen; pytest shows it with -s."""
        print(f"{what}: {dict(self.outcomes)}, the slowest in {self.worst:.3f} s")  # noqa: T201

    def check(self):
        """Fail unless every request was answered and every write is there."""
        listed = self.site("GET", "/v1/models").json["data"]

        assert {200, 201} == set(self.outcomes), self.outcomes
        assert self.outcomes[201] == len(self.written)
        assert set(self.written) == {entry["id"] for entry in listed}


def test_twenty_reloads_lose_nothing(nginx, own_gunicorn):
    """Each replaces every worker; no request fails, no write is lost, no answer is stale."""
    master = int((own_gunicorn / "pid").read_text())
    admin_key = (own_gunicorn / "admin-key").read_text().strip()
    log = own_gunicorn / "err"
    with Load(nginx(own_gunicorn / "s"), admin_key) as load:
        until(lambda: load.outcomes[201])
        load.worst = 0.0  # the first requests have waited for the start
        for _ in range(20):
            old = workers_of(master) - stopping(log)
            answered = load.outcomes[200]
            os.kill(master, signal.SIGHUP)
            # The old workers stop; the next reload does not wait for them to end.
            until(lambda old=old: not (workers_of(master) - stopping(log)) & old)
            until(lambda answered=answered: load.outcomes[200] > answered)
        until(lambda old=old: len(new := workers_of(master)) == 2 and not new & old)

    load.tell("20 reloads")
    load.check()


def test_restarts_lose_nothing_when_systemd_holds_the_socket(nginx, activated, tmp_path):
    """Requests wait in the socket while one release goes and the next one comes."""
    folder = tmp_path / "data"
    folder.mkdir()
    admin_key = mint()
    (folder / "admin-key").write_text(admin_key)
    (folder / "admin-key").chmod(0o600)  # else the start is refused
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as last:
        listener.bind(str(tmp_path / "s"))
        listener.listen(4096)
        with Load(nginx(tmp_path / "s"), admin_key) as load:
            for _ in range(4):
                answered = load.outcomes[200]
                with activated(listener, folder):
                    until(lambda answered=answered: load.outcomes[200] > answered + 100)
            last.enter_context(activated(listener, folder))
        load.tell("4 restarts")
        load.check()
