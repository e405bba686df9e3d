"""kill -9 of workers and master during writes loses nothing that was answered."""

import http.client
import os
import random
import signal
import threading
import time
from contextlib import suppress

from app.settings import Settings
from app.store.store import Store
from tests.server.replay import check_log


class Writers:
    """Clients that write as fast as they can, and remember what was answered."""

    def __init__(self, server, prefix):
        self.server = server
        self.acknowledged = {}
        self.sent = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(f"{prefix}-{number}",))
            for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, name):
        key = self.server.admin_key
        step = 0
        while not self._stop.is_set():
            step += 1
            model_id = f"{name}-{step % 20}"
            self.sent.setdefault(model_id, set()).add(step)
            with suppress(OSError, http.client.HTTPException):
                answer = self.server(
                    "PUT", f"/admin/models/{model_id}", {"context_length": step}, key
                )
                if answer.status in (200, 201):
                    self.acknowledged[model_id] = step
                else:
                    assert 503 == answer.status, answer.body

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def check(store, writers):
    """Compare what the database has with what was answered."""
    stored = {model.id: model for model in store.load().models}
    for model_id, step in writers.acknowledged.items():
        # A write that was sent and not answered may have happened; an answered one has.
        assert stored[model_id].context_length in {s for s in writers.sent[model_id] if s >= step}
    check_log(store)


def test_killed_workers_lose_nothing(serve, clock):
    """Workers killed in the middle of writes are replaced; the log and the entries agree."""
    server = serve()
    store = Store(Settings(instance_path=server.instance), clock)
    writers = Writers(server, "w")
    chance = random.Random(1)
    for _ in range(15):
        progress_from = sum(writers.acknowledged.values())
        wait_until(lambda at=progress_from: sum(writers.acknowledged.values()) > at)
        time.sleep(chance.random() * 0.05)  # at a random moment of a write
        os.kill(chance.choice(server.workers()), signal.SIGKILL)
    writers.stop()

    assert len(writers.acknowledged) > 20
    check(store, writers)
    store.close()


def test_a_killed_master_loses_nothing(serve, clock):
    """After kill -9 of everything the next start has each write that was answered."""
    chance = random.Random(2)
    all_writers = []
    for round_number in range(5):
        server = serve("same")
        writers = Writers(server, f"m{round_number}")
        wait_until(lambda writers=writers: len(writers.acknowledged) > 10)
        time.sleep(chance.random() * 0.05)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        writers.stop()
        all_writers.append(writers)
    store = Store(Settings(instance_path=server.instance), clock)
    for writers in all_writers:
        check(store, writers)
    store.close()

    assert 200 == serve("same")("GET", "/v1/models").status


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
