"""kill -9 of workers and master during writes loses nothing that was answered."""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.store import Store
from tests.server.writing import Writers, check_log


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("rounds", "workers_killed"), [(1, 1), pytest.param(20, 9, marks=pytest.mark.slow)]
)
def test_kills_lose_nothing(serve, clock, rounds, workers_killed):
    """Workers and masters killed in the middle of writes: each answered write is there."""
    chance = random.Random(1)
    first = serve("same")
    writers = Writers(first.admin_key)
    first.stop()
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
    for number in range(rounds):
        server = serve("same", WEB_CONCURRENCY="4")
        with writers.writing_to(server):
            for _ in range(workers_killed):
                kill(partial(living, server))
            orphans += server.workers()
            # With all its workers, or alone: then the next master meets them at the database.
            kill(lambda pid=server.process.pid: [pid], os.killpg if number % 2 else os.kill)
        server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    settings = Settings(instance_path=server.instance)
    store = Store(settings, clock)
    _, logged = check_log(store, settings)
    writers.check({model.id: model for model in store.load().models}, writers.acknowledged)
    store.close()

    for model_id, step in writers.answered:
        assert step in {model.context_length for model in logged[model_id]}
    assert rounds * (workers_killed + 1) == len(killed)
    assert 200 == serve("same")("GET", "/v1/models").status
