"""The thread that publishes the metrics of a worker."""

import atexit
import threading
from types import SimpleNamespace

from app.metrics.shared_pages import SharedPages, new_memory


def test_an_exit_does_not_wait_for_the_store(app, monkeypatch):
    """The thread does not ask the store once more after the main thread has ended."""
    alive, asked = [True], []
    main = SimpleNamespace(join=lambda _: alive.clear(), is_alive=lambda: bool(alive))
    monkeypatch.setattr(threading, "main_thread", lambda: main)
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    services = app.extensions["roster"]
    current = type(services.catalog).current
    monkeypatch.setattr(
        type(services.catalog), "current", lambda self: asked.append(self) or current(self)
    )
    memory = new_memory()
    services.metrics.share(memory, SharedPages(memory).take())
    [thread] = [each for each in threading.enumerate() if each.name == "metrics"] or [None]
    if thread is not None:
        thread.join(30)

    assert [services.catalog] == asked  # before the thread began
