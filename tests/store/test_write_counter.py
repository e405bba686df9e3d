"""The bell: a reader looks into the database when somebody may have written, and only then."""

import os
import subprocess
import sys
from contextlib import closing

import pytest

from app.catalog.errors import StoreUnavailable
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.store.sqlite.connection import sqlite
from app.store.store import Store

NOW = 1_800_000_000


@pytest.fixture
def store(settings, clock):
    opened = Store(settings, clock)
    opened.open(create=True)
    opened.position()
    opened._revision_reader._sure_until = float(
        "inf"
    )  # the look once a second is not what is tested
    yield opened
    opened.close()


@pytest.fixture
def looks(store):
    """Return what counts the looks of this thread into the database since it was last asked."""
    seen = []
    store._revision_reader._threads.kept.connection.connection.driver_connection.set_trace_callback(
        seen.append
    )

    def count():
        found = len(seen)
        seen.clear()
        return found

    return count


def put(store, model_id):
    model = Model.compose({"id": model_id}, now=NOW)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        return transaction.put_model(model, None).revision


def test_nobody_looks_while_nothing_is_written(store, looks):
    """After one look the revision is known, however often it is asked for."""
    known = store.position().revision
    looks()

    assert [known] * 100 == [store.position().revision for _ in range(100)]
    assert 0 == looks()


def test_a_write_is_seen_at_once(store, looks, settings, clock):
    """Each write of another store on the same file costs one look, and is seen by it."""
    other = Store(settings, clock)
    for model_id in "abc":
        written = put(other, model_id)
        looks()

        assert [written, written] == [store.position().revision, store.position().revision]
        assert 1 == looks()
    other.close()


def test_while_somebody_writes_every_read_looks(store, looks):
    """Inside a transaction, and until it has ended, the bell promises nothing."""
    before = store.position().revision
    looks()
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.put_model(Model.compose({"id": "x"}, now=NOW), None)

        assert [before, before] == [store.position().revision, store.position().revision]
        assert 2 == looks()
    assert before + 1 == store.position().revision


def test_a_killed_writer_leaves_nobody_deaf(store, looks, settings):
    """After a kill in the middle of a write every read looks, until the next write has ended."""
    program = f"""
import os, signal, time
from pathlib import Path
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.store import Store
store = Store(Settings(instance_path=Path({str(settings.instance_path)!r})), time.time)
with store.transaction(actor=Actor("test"), now=0):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    looks()

    assert -9 == killed.returncode
    assert store.position().revision == store.position().revision
    assert 2 == looks()
    written = put(store, "x")
    store.position()
    looks()
    assert written == store.position().revision
    assert 0 == looks()


def test_a_strangers_write_is_seen_at_the_next_regular_look(store, settings):
    """Who writes past us rings no bell; once a second it is looked for all the same."""
    before = store.position().revision
    with closing(sqlite.connect(settings.database_path)) as stranger, stranger:
        stranger.execute("UPDATE catalogue SET revision = revision + 1")

    assert before == store.position().revision
    store._revision_reader._sure_until = 0
    assert before + 1 == store.position().revision


def test_a_lost_bell_is_replaced(store, settings):
    """Where the lock's file is gone, the next one is listened to after a regular look."""
    store.position()
    os.unlink(settings.instance_path / "roster.db.lock")  # noqa: PTH108
    put(store, "x")
    store._revision_reader._sure_until = 0
    store.position()
    store._revision_reader._sure_until = float("inf")

    assert put(store, "y") == store.position().revision


class Locked:
    """A cursor of a database that somebody else holds."""

    def execute(self, *_):
        raise sqlite.OperationalError("database is locked")


def test_silence_hides_no_outage(store, monkeypatch):
    """Once a look has failed, silence says nothing until one has succeeded."""
    known = store.position().revision
    store._revision_reader._threads.kept.cursor = Locked()
    store._revision_reader._sure_until = 0
    with monkeypatch.context() as patch:
        patch.setattr(store._database, "keep", lambda: Locked().execute())
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                store.position()

    assert known == store.position().revision
