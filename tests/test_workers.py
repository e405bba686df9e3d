"""The workers of ``gunicorn.conf.py``, without a server."""

import gc
import logging
import os
import runpy
import signal
from pathlib import Path

import pytest
from gunicorn import util
from gunicorn.config import Config

from app.generations import Generations, new_memory

CONF = Path(__file__).parents[1] / "gunicorn.conf.py"


@pytest.fixture
def conf(monkeypatch):
    monkeypatch.setattr(util, "write_error", util.write_error)  # the configuration replaces it
    return runpy.run_path(str(CONF))


@pytest.fixture
def worker(conf):
    """Give a worker that is about to accept connections."""
    worker = conf["ReplaceableWorker"](1, os.getppid(), [], None, 15, Config(), logging.root)
    worker.roster_generations = Generations(new_memory())
    worker.roster_generation = worker.roster_generations.newest
    worker.roster_slot = worker.roster_generations.take()
    worker.method_queue.init()
    worker.booted = True
    yield worker
    worker.method_queue.close()
    worker.tmp.close()


@pytest.mark.parametrize("handler", ["handle_exit", "handle_quit"])
def test_a_worker_that_is_stopped_serves_no_more(worker, handler):
    """The others see that at once: from then on it accepts no connection."""
    worker.notify()
    serves = worker.roster_generations.serves(worker.roster_slot)
    getattr(worker, handler)(signal.SIGTERM, None)

    assert serves
    assert not worker.roster_generations.serves(worker.roster_slot)


def test_a_signal_that_comes_while_a_worker_notes_that_it_serves(worker, monkeypatch):
    """What it has noted does not last."""
    serve = worker.roster_generations.serve

    def interrupted(*arguments):
        worker.handle_exit(signal.SIGTERM, None)
        serve(*arguments)

    monkeypatch.setattr(worker.roster_generations, "serve", interrupted)
    worker.notify()

    assert not worker.roster_generations.serves(worker.roster_slot)


def test_a_worker_that_has_answered_its_last_request_serves_no_more(worker):
    """gunicorn ends it without a signal at `max_requests`, and it finishes what it has in hand."""
    worker.notify()
    worker.alive = False
    worker.notify()

    assert not worker.roster_generations.serves(worker.roster_slot)


def test_a_loaded_image_is_frozen(conf, app):
    """The garbage collector leaves what stays alone."""
    with app.app_context():
        loaded = conf["_load"]()
    frozen = gc.get_freeze_count()
    gc.unfreeze()

    assert loaded
    assert frozen > 0
    assert gc.isenabled()


def test_what_a_failure_leaves_is_not_frozen(conf, unopened_app):
    """A worker may try for hours, and the garbage collector frees what each try leaves."""
    with unopened_app.app_context():
        loaded = conf["_load"]()
    frozen = gc.get_freeze_count()
    gc.unfreeze()

    assert not loaded
    assert 0 == frozen
    assert gc.isenabled()
