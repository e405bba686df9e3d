"""Old lines of the log are removed, and all that the rest of it says stays true."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import HistoryPruned
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.store.store import Store

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def prune(roster, clock):
    """Remove what is before the lines that come next; return what was removed."""

    def at_once():
        clock.now += 100
        return roster.store.pruning.remove(roster.store.pruning.plan(clock.now))

    return at_once


def revisions(log):
    return [line.revision for line in log()]


def test_what_is_after_it_stays_as_it_was(roster, prune):
    """Exports of then, and what an import would do, are the same without the removed lines."""
    rows = [{"id": "a", "name": "New", "context_length": 9}, {"id": "b", "name": "New"}]
    roster.update({"id": "a", "name": "A"}, {"id": "b", "name": "B"}, {"id": "c"}, source="s")
    roster.edit("a", name="Mine")
    roster.remove("b")
    roster.remove("c")
    roster.undo()
    roster.add("d")
    for number in range(9):
        roster.update({"id": "a", "name": "A", "context_length": number + 1}, source="s")
        roster.edit("d", name=str(number))
    first, exports = roster.revision, {roster.revision: roster.export()}
    plan = roster.take(rows, source="s", on_conflict="update", prune=True, dry_run=True)
    before = roster.store.contents().changes
    removed = prune()
    for name in "xyz":
        roster.edit("d", name=name)
        exports[roster.revision] = roster.export()
    roster.revert(first)
    same = roster.take(rows, source="s", on_conflict="update", prune=True, dry_run=True)

    assert (first, before) == (removed.revision, removed.of)
    assert before + 4 - removed.lines == roster.store.contents().changes < before
    assert exports == {revision: roster.export(as_of=revision) for revision in exports}
    assert {**plan, "revision": 0} == {**same, "revision": 0}
    assert [["a"], ["b"]] == [[found["id"] for found in plan[why]] for why in ("kept", "skipped")]


def test_what_is_before_it_is_refused(roster, prune):
    """Earlier revisions, and taking back acts of which lines are gone, are refused as such."""
    roster.add("a")
    first = roster.revision
    roster.edit("a", name="A")
    prune()
    roster.add("b")
    for refused in (
        lambda: roster.export(as_of=first),
        lambda: roster.export(as_of="2020-01-01"),
        lambda: roster.revert(first),
        lambda: roster.undo(first),
        lambda: roster.undo(None, "a"),
        lambda: roster.plan([{"id": "a", "name": "B"}], on_conflict="update", revision=first),
    ):
        with pytest.raises(HistoryPruned, match=f"before revision {first + 1}, of 2027-"):
            refused()
    roster.undo()

    assert ["a"] == [*roster.entries()]


def test_an_undo_that_returns_to_before_it(roster, prune, log):
    """What a later line has returned to is left, until that line is old itself."""
    roster.update({"id": "a", "name": "A"}, source="s")
    roster.edit("a", name="Mine")
    roster.update({"id": "a", "name": "B"}, source="s", force=True)
    first = roster.revision
    planned = roster.store.pruning.plan(roster.store._clock() + 1)
    roster.undo()
    roster.store.pruning.remove(planned)
    plan = roster.take([{"id": "a", "name": "C"}], source="s", on_conflict="update", dry_run=True)
    left = revisions(log)
    prune()

    assert ["a"] == [found["id"] for found in plan["kept"]]
    assert [first - 2, first - 1, first, first + 1] == left
    assert [first - 2, first - 1, first + 1] == revisions(log)


def test_many_lines_of_one_entry_and_of_keys(roster, prune, log, clock):
    """All lines about keys go, and of an entry all that decide nothing, however many there are."""
    with roster.store.transaction(actor=Actor("test"), now=int(clock.now)) as transaction:
        before = None
        for number in range(250):
            key = describe(mint(), name="k", created=number)
            transaction.put_key(key, None, "key.create")
            after = Model.compose({"id": "a", "context_length": number + 1}, now=0)
            transaction.write([Change(before, after)], "import:s")
            before = after
    roster.add("b")
    prune()
    lines = log()

    assert ["import:s", "import:s", "model.create"] == [line.action for line in lines]
    assert lines[2].revision - 1 == lines[1].revision


def test_followers(roster, prune, settings, clock):
    """A worker that was behind loads anew, and one that was not follows."""
    other = Store(settings, clock)
    behind = Catalog(other, clock)
    roster.add("a")
    position = behind.current().position
    roster.edit("a", name="A")
    roster.edit("a", name="B")
    prune()
    newest = other.position()
    roster.edit("a", name="C")
    changes = other.changes_since(newest)
    loaded = behind.current()
    unknown = other.changes_since(position)
    other.close()

    assert unknown is None
    assert ["a"] == [*changes.models]
    assert [*roster.entries().values()] == loaded.models


def test_two_at_once(roster, prune, log, settings, clock):
    """Two that remove the same lines leave what one leaves."""
    for name in map(str, range(60)):
        roster.edit("a", name=name) if roster.entries() else roster.add("a")
    others = [Store(settings, clock) for _ in range(2)]
    clock.now += 1
    planned = others[0].pruning.plan(clock.now)
    with ThreadPoolExecutor() as pool:
        done = [*pool.map(lambda store: store.pruning.remove(planned), others)]
    for store in others:
        store.close()

    assert planned.lines == sum(removal.lines for removal in done) == planned.of - 1
    assert [planned.revision] == revisions(log)


@pytest.mark.slow
def test_a_killed_one(roster, prune, log, settings, clock):
    """What is left after a kill is right, and the next one removes the rest."""
    rows = [{"id": "a", "name": "B"}]
    roster.update({"id": "a", "name": "A"}, source="s")
    for name in map(str, range(60)):
        roster.edit("a", name=name)
    roster.undo()
    export, first = roster.export(), roster.revision
    plan = roster.take(rows, source="s", on_conflict="update", dry_run=True)
    number, url = len(log()), settings.database_url
    program = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from app.settings import Settings\n"
        "from app.store import pruning\n"
        "from app.store.store import Store\n"
        "pruning._NUMBER = 1\n"
        f"settings = Settings(instance_path=Path(sys.argv[1]), database_url={url!r})\n"
        "store = Store(settings, int)\n"
        "connection = store.writer.connection\n"
        "def counted(left=[20]):\n"
        "    left[0] -= 1\n"
        "    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return connection()\n"
        "store.writer.connection = counted\n"
        f"store.pruning.remove(store.pruning.plan({clock.now + 1}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, settings.instance_path], check=False)
    left = len(log())
    same = roster.take(rows, source="s", on_conflict="update", dry_run=True)
    with pytest.raises(HistoryPruned):
        roster.export(as_of=first - 1)
    as_of = roster.export(as_of=first)
    removed = prune()

    assert (-signal.SIGKILL, True) == (done.returncode, 3 < left < number)
    assert (plan, export) == (same, as_of)
    assert left - removed.lines == len(log()) == 3


@pytest.mark.databases("sqlite")
def test_checkpoints(roster, prune, monkeypatch):
    """Nobody holds the writers' lock while removed lines are written into the file."""
    for name in map(str, range(60)):
        roster.edit("a", name=name) if roster.entries() else roster.add("a")
    backend, sizes = roster.store.backend, []
    checkpoint = backend.checkpoint

    def while_others_write():
        with backend.writer_lock(time.monotonic()):
            checkpoint()
        with backend.reading.connect() as connection:
            sizes.append(connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one())

    monkeypatch.setattr(backend, "checkpoint", while_others_write)
    monkeypatch.setattr("app.store.pruning._NUMBER", 30)
    prune()

    assert len(sizes) > 1
    assert {1000} == {*sizes}


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("copy", ["backup", "copy"])
def test_copies(roster, prune, tmp_path, copy):
    """A copy, and a restored backup, know from where on their log is complete."""
    roster.add("a")
    roster.edit("a", name="A")
    prune()
    first = roster.revision
    target = tmp_path / "there" / "roster.db"
    there = replace(
        roster.store.settings, instance_path=target.parent, database_url=f"sqlite:///{target}"
    )
    other = Store(there, roster.store._clock)
    if copy == "copy":
        roster.store.copy_to(there.database_url)
    else:
        roster.store.backup(tmp_path / "backup.db")
        other.restore(tmp_path / "backup.db", actor=Actor("test"))
    with pytest.raises(HistoryPruned):
        other.log.past(first - 1, other.position())

    assert {} == other.log.past(first, other.position())[1]
    other.close()
