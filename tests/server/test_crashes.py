"""kill -9 of workers and master during writes loses nothing that was answered."""

import http.client
import os
import random
import signal
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from app.settings import Settings
from app.store.store import Store
from tests.server.replay import check_log

#: Two hundred kills: in each round so many workers, and then the master.
ROUNDS, WORKERS_KILLED = 20, 9


class Writers:
    """Clients that write as fast as they can, and remember what was answered."""

    def __init__(self):
        #: How often each client has written.
        self.steps = dict.fromkeys(("a", "b", "c", "d"), 0)
        self.sent = {}
        #: By id, each step that was answered with success.
        self.acknowledged = {}

    @property
    def count(self):
        return sum(len(steps) for steps in list(self.acknowledged.values()))

    @contextmanager
    def writing_to(self, server):
        """Write to `server` while the block runs."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._write, args=(server, name, stop)) for name in self.steps
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _write(self, server, name, stop):
        key = server.admin_key
        while not stop.is_set():
            self.steps[name] = step = self.steps[name] + 1
            model_id = f"{name}-{step % 20}"
            self.sent.setdefault(model_id, set()).add(step)
            with suppress(OSError, http.client.HTTPException):
                answer = server("PUT", f"/admin/models/{model_id}", {"context_length": step}, key)
                if answer.status in (200, 201):
                    self.acknowledged.setdefault(model_id, []).append(step)
                else:
                    assert 503 == answer.status, answer.body

    def check(self, store):
        """Compare what the database and its log have with what was answered."""
        stored = {model.id: model for model in store.load().models}
        logged = check_log(store)
        for model_id, steps in self.acknowledged.items():
            # A write that was sent and not answered may have happened; an answered one has.
            assert stored[model_id].context_length in {
                step for step in self.sent[model_id] if step >= steps[-1]
            }
            assert set(steps) <= {model.context_length for model in logged[model_id]}


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_two_hundred_kills_lose_nothing(serve, clock):
    """Workers and masters killed in the middle of writes: each answered write is there."""
    chance = random.Random(1)
    writers = Writers()
    killed = []

    def living(server):
        return [pid for pid in server.workers() if pid not in killed]

    def kill(choose, send=os.kill):
        at = writers.count
        wait_until(lambda: writers.count > at and choose())
        time.sleep(chance.random() * 0.01)  # at a random moment of a write
        pid = chance.choice(choose())
        send(pid, signal.SIGKILL)
        killed.append(pid)

    orphans = []
    for number in range(ROUNDS):
        server = serve("same", WEB_CONCURRENCY="4")
        with writers.writing_to(server):
            for _ in range(WORKERS_KILLED):
                kill(partial(living, server))
            orphans += server.workers()
            # With all its workers, or alone: then the next master meets them at the database.
            kill(lambda pid=server.process.pid: [pid], os.killpg if number % 2 else os.kill)
        server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    store = Store(Settings(instance_path=server.instance), clock)
    writers.check(store)
    store.close()

    assert 200 == len(killed)
    assert 200 == serve("same")("GET", "/v1/models").status
