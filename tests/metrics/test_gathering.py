"""The thread that publishes the metrics of a worker."""

import threading
from types import SimpleNamespace

from app.metrics.gathering import Metrics


def test_an_exit_does_not_wait_for_the_store(monkeypatch):
    """The thread does not ask the store once more after the main thread has ended."""
    alive, asked = [True], []
    main = SimpleNamespace(join=lambda _: alive.clear(), is_alive=lambda: bool(alive))
    monkeypatch.setattr(threading, "main_thread", lambda: main)
    metrics = Metrics(None, None, None)
    monkeypatch.setattr(metrics, "_look", lambda: asked.append("store"))
    metrics._tick()

    assert [] == asked
