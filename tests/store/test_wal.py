"""A SQLite file and its write-ahead log: both are used together, or the file is refused."""

import fcntl
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from app.catalog.errors import StoreRefused
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.backend import READ_TIMEOUT
from app.store.schema import HEAD
from app.store.sqlite.connection import sqlite
from app.store.sqlite.locks import WriterLock, try_lock
from app.store.sqlite.wal import check_pair
from app.store.store import Store
from tests.writing import write

NOW = 1_800_000_000
PATIENCE = 30.0  # seconds
fork = multiprocessing.get_context("fork")


@pytest.fixture
def at(tmp_path, clock):
    """What returns a store on the database of a folder; all of them are closed in the end."""
    stores = []

    def store_at(name):
        stores.append(Store(Settings(instance_path=tmp_path / name), clock))
        return stores[-1]

    yield store_at
    for store in stores:
        store.close()


def put(store, *ids):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for model_id in ids:
            new = Model.compose({"id": model_id, "description": model_id * 100}, now=NOW)
            write(transaction, new, transaction.models_of([model_id]).get(model_id))


def ids(store):
    return [model.id for model in store.load().models]


def killed(work, *args):
    """Do some work in a process that is then killed, as SIGKILL does it: nothing is closed."""

    def run():
        work(*args)
        os._exit(9)

    process = fork.Process(target=run)
    process.start()
    process.join()
    assert 9 == process.exitcode


def killed_with(store, *entries):
    """Write entries, each in a transaction of its own, in a process that is killed."""

    def write():
        store.open(create=True)
        for model_id in entries:
            put(store, model_id)

    killed(write)


def stopped_with(store, *entries):
    """Write entries in this process and close the database."""
    store.open(create=True)
    put(store, *entries)
    store.close()


def path_of(store, suffix=""):
    path = store.settings.database_path
    return path.with_name(path.name + suffix)


def contents(store):
    """Return the bytes of the database and of its log."""
    paths = [path_of(store), path_of(store, "-wal")]
    return [path.read_bytes() if path.exists() else None for path in paths]


def refusal(call):
    with pytest.raises(StoreRefused) as refused:
        call()
    return refused.value.reason


def test_what_a_killed_process_wrote_is_there(at):
    """A file and its own log are opened together, wherever both are copied to."""
    killed_with(at("a"), "x", "y")
    path_of(at("b")).parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(path_of(at("a"), suffix), path_of(at("b"), suffix))

    assert ["x", "y"] == ids(at("b"))


@pytest.mark.parametrize("empty", [False, True])
def test_a_log_without_its_database_is_refused(at, tmp_path, empty):
    """Beside the log of a file that is missing or empty no database is made."""
    killed_with(at("a"), "x")
    whole, log = contents(at("a"))
    path_of(at("a")).write_bytes(b"") if empty else path_of(at("a")).unlink()
    folder = tmp_path / "a"

    assert (
        f"{folder}/roster.db is missing or empty, and roster.db-wal exists: the two belong "
        "together. Copy roster.db-wal first, then put roster.db back, or run 'flask db restore "
        "FILE'. To start with an empty catalogue, move roster.db-wal away."
    ) == refusal(lambda: at("a").open(create=True))
    assert [b"" if empty else None, log] == contents(at("a"))
    path_of(at("a")).write_bytes(whole)
    assert ["x"] == ids(at("a"))


def test_a_copy_without_its_log_is_refused(at, tmp_path):
    """A file whose tables were in its log is no new database, whoever opens it first."""
    killed_with(at("a"), "x")
    whole, log = contents(at("a"))
    path_of(at("a"), "-wal").unlink()
    sentence = (
        f"{tmp_path}/a/roster.db has no tables, and roster.db-wal is missing: the two belong "
        "together. Copy roster.db first, then put roster.db-wal back, or run 'flask db restore "
        "FILE'. To start with an empty catalogue, move roster.db away."
    )

    for open_ in (at("a").schema, at("a").position, lambda: at("a").open(create=True)):
        assert sentence == refusal(open_)
    assert [whole, None] == contents(at("a"))
    path_of(at("a"), "-wal").write_bytes(log)
    assert ["x"] == ids(at("a"))


@pytest.mark.parametrize("later", [False, True], ids=["young", "later"])
def test_a_log_of_another_database_is_refused(at, tmp_path, later):
    """SQLite would write it into the file, which holds something else; neither is changed."""
    if later:
        stopped_with(at("a"), "x", "y")
    killed_with(at("a"), "z")
    stopped_with(at("b"), "mine")
    shutil.copy(path_of(at("a"), "-wal"), path_of(at("b"), "-wal"))
    before = contents(at("b"))
    sentence = (
        f"{tmp_path}/b/roster.db-wal is the write-ahead log of another database than roster.db, "
        "or of another state of it. Nothing was changed. Copy both files first, then move "
        "roster.db-wal away, or put the database of roster.db-wal back."
    )

    for open_ in (at("b").position, lambda: at("b").open(create=True)):
        assert sentence == refusal(open_)
    assert before == contents(at("b"))
    path_of(at("b"), "-wal").unlink()
    assert ["mine"] == ids(at("b"))


def test_no_database_is_made_where_a_server_has_lost_its_own(at, tmp_path):
    """Its workers would follow the empty one; whoever wants that stops the server first."""
    server = at("a")
    server.open(create=True)
    server.position()
    for suffix in ("", "-wal", "-shm"):
        path_of(server, suffix).rename(tmp_path / f"away{suffix}")

    assert (
        f"{tmp_path}/a/roster.db is gone, and servers or commands had it open: put it back. To "
        "begin with an empty one, stop them first."
    ) == refusal(lambda: at("a").open(create=True))
    server.close()
    at("a").open(create=True)
    assert [] == ids(at("a"))


@pytest.mark.parametrize(("mine", "others"), [(7, 5), (300, 5), (100, 60)])
def test_a_log_that_would_damage_is_refused(at, tmp_path, mine, others):
    """Also where the two together are so damaged that their history cannot be read."""
    stopped_with(at("b"), *(f"m{number}" for number in range(mine)))
    stopped_with(at("a"), *(f"n{number}" for number in range(others)))
    killed_with(at("a"), "x")
    shutil.copy(path_of(at("a"), "-wal"), path_of(at("b"), "-wal"))
    before = contents(at("b"))

    for open_ in (at("b").schema, at("b").position, lambda: at("b").open(create=True)):
        assert "of another database" in refusal(open_)
    at("a").backup(tmp_path / "backup.db")
    at("a").close()
    at("b").restore(tmp_path / "backup.db", actor=Actor("test"))
    kept = sorted((tmp_path / "b").glob("roster.db.before-restore-*"))
    assert before == [path.read_bytes() for path in kept if not path.name.endswith("-shm")]


@pytest.mark.parametrize("foreign", [False, True])
def test_a_start_waits_for_another_ones_check(at, foreign):
    """A start waits while another process checks a long log; if that refuses it, so does this."""
    killed_with(at("a"), "x")
    if foreign:
        stopped_with(at("b"), "mine")
        path_of(at("a")).write_bytes(path_of(at("b")).read_bytes())
    before = contents(at("a"))
    with ThreadPoolExecutor() as pool, path_of(at("a"), ".users").open() as other:
        assert try_lock(other.fileno(), fcntl.LOCK_EX)
        opening = pool.submit(at("a").open, create=True)
        time.sleep(2 * READ_TIMEOUT)
        assert not opening.done()
        other.close()
        if foreign:
            assert "of another database" in refusal(opening.result)
            assert before == contents(at("a"))
        else:
            opening.result()
            assert ["x"] == ids(at("a"))


def test_an_older_log_is_refused(at):
    """A log from before what the file holds is not written into it."""
    stopped_with(at("a"), "x")
    killed_with(at("a"), "y")
    log = contents(at("a"))[1]
    stopped_with(at("a"), "z", "y")
    path_of(at("a"), "-wal").write_bytes(log)

    assert "of another database" in refusal(at("a").position)
    path_of(at("a"), "-wal").unlink()
    assert ["x", "y", "z"] == ids(at("a"))


def test_a_later_log_is_refused(at):
    """An older copy beside a later log stays what it is without the log."""
    stopped_with(at("a"), *(f"m{number}" for number in range(100)))
    copy = path_of(at("a")).read_bytes()
    stopped_with(at("a"), *(f"n{number}" for number in range(100)))
    killed_with(at("a"), *(f"o{number}" for number in range(10)))
    path_of(at("a")).write_bytes(copy)

    for open_ in (at("a").position, lambda: at("a").open(create=True)):
        assert "of another state" in refusal(open_)
    assert copy == contents(at("a"))[0]
    path_of(at("a"), "-wal").unlink()
    assert 100 == len(ids(at("a")))


def test_an_empty_log_is_no_log(at):
    """A log that a first start left on a full disk holds nothing, and a database is made."""
    path_of(at("a")).parent.mkdir()
    path_of(at("a"), "-wal").touch()
    at("a").open(create=True)

    assert HEAD == at("a").schema()


def test_a_first_start_may_be_killed(at):
    """A start that was killed before it made the log is followed by one that makes both."""
    store = at("a")
    wal = path_of(store, "-wal")

    def begin():
        with store.backend.preparing(time.monotonic() + PATIENCE):
            store.backend.prepare(None)
            assert (4096, False) == (path_of(store).stat().st_size, wal.exists())
            os._exit(9)

    killed(begin)
    at("a").open(create=True)

    assert HEAD == at("a").schema()


def test_a_first_start_may_fail(at, monkeypatch):
    """A start that made no tables, and closed the file, is followed by one that makes them."""
    store = at("a")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("app.store.opening.upgrade", lambda _: 1 / 0)
        store.open(create=True)
    store.close()
    assert 4096 == path_of(store).stat().st_size
    at("a").open(create=True)

    assert HEAD == at("a").schema()


#: By schema, what makes a database of it one of the schema before.
TAKEN_BACK = {
    2: [f"ALTER TABLE catalogue DROP COLUMN {name}" for name in ("lineage", "oldest_schema")],
    3: [
        "ALTER TABLE catalogue DROP COLUMN mark",
        *(f"ALTER TABLE changes DROP COLUMN {name}" for name in ("mark", "batch", "request_id")),
    ],
    4: ["DROP TABLE aliases"],
    5: ["DROP TABLE sources"],
    6: [
        "DROP INDEX changes_by_time",
        "DROP INDEX changes_by_actor",
        "ALTER TABLE catalogue DROP COLUMN pruned",
    ],
}


def pages_of(log):
    """Return the pages in a write-ahead log, each as it was written last, by their numbers."""
    size = int.from_bytes(log[8:12])  # https://sqlite.org/fileformat2.html#walformat
    pages = {}
    for at in range(32, len(log), 24 + size):
        if log[at + 8 : at + 16] == log[16:24]:
            pages[int.from_bytes(log[at : at + 4])] = log[at + 24 : at + 24 + size]
    return pages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "lineage"),
    [
        (1, ""),
        (2, ""),
        (2, "0123456789abcdef"),
        (2, "2-0123456789abcdef"),
        (3, "3-0123456789abcdef"),
        (HEAD, None),
    ],
)
def test_a_checkpoint_may_be_killed(at, schema, lineage):
    """Whichever pages of its log are in a file, also of an upgrade, both belong together.

    SQLite writes one page after the other, and a power cut keeps any of them.
    """
    stopped_with(at("a"), *(f"m{number}" for number in range(40)))
    if schema < HEAD:
        connection = sqlite.connect(path_of(at("a")))
        connection.execute("UPDATE alembic_version SET version_num = ?", [f"{schema:04}"])
        connection.execute("UPDATE catalogue SET lineage = ?", [lineage])
        for number in range(schema + 1, HEAD + 1):
            for statement in TAKEN_BACK[number]:
                connection.execute(statement)
        connection.commit()
        connection.close()
    killed_with(at("a"), "x")
    file, log = contents(at("a"))
    pages = pages_of(log)
    assert (4 in pages, schema < HEAD) == (True, 2 in pages)  # the catalogue and the schema
    path = path_of(at("a"))

    for count in range(len(pages) + 1):
        for some in combinations(pages, count):
            path.write_bytes(file)
            with path.open("r+b") as mixed:
                for number in some:
                    mixed.seek((number - 1) * 4096)
                    mixed.write(pages[number])
            check_pair(path)
    assert 41 == len(ids(at("a")))


# Restoring


@pytest.mark.parametrize("lost", ["roster.db", "roster.db-wal"])
def test_a_restore_helps(at, tmp_path, lost):
    """A backup replaces a file without its log, or a log without its file, and both stay."""
    killed_with(at("a"), "x")
    at("a").backup(tmp_path / "backup.db")
    at("a").close()
    killed_with(at("b"), "y")
    (tmp_path / "b" / lost).unlink()
    left = [content for content in contents(at("b")) if content is not None]
    at("b").restore(tmp_path / "backup.db", actor=Actor("test"))

    assert ["x"] == ids(at("b"))
    kept = (tmp_path / "b").glob("roster.db.before-restore-*")
    assert left == [path.read_bytes() for path in kept if not path.name.endswith("-shm")]


def test_a_restore_keeps_two_that_differ_apart(at, tmp_path):
    """A restore keeps a file and the log of another database, and writes neither."""
    stopped_with(at("a"), "x")
    at("a").backup(tmp_path / "backup.db")
    at("a").close()
    killed_with(at("a"), "z")
    stopped_with(at("b"), "mine")
    shutil.copy(path_of(at("a"), "-wal"), path_of(at("b"), "-wal"))
    before = contents(at("b"))
    kept = at("b").restore(tmp_path / "backup.db", actor=Actor("test")).previous

    assert before == [kept.read_bytes(), kept.with_name(f"{kept.name}-wal").read_bytes()]
    assert ["x"] == ids(at("b"))


# Closing


def test_processes_close_one_after_the_other(at, tmp_path):
    """A process that closes waits for another that does, and then removes the log."""
    stopped_with(at("a"))
    written, may_close = fork.Event(), fork.Event()

    def write_and_close():
        store = at("a")
        put(store, "x")
        written.set()
        may_close.wait(PATIENCE)
        store.close()

    process = fork.Process(target=write_and_close)
    process.start()
    assert written.wait(PATIENCE)
    lock = WriterLock(path_of(at("a"), ".lock"))
    with lock.held(time.monotonic() + PATIENCE), path_of(at("a"), ".lock.next").open() as waits:
        may_close.set()
        while try_lock(waits.fileno(), fcntl.LOCK_EX):
            fcntl.flock(waits, fcntl.LOCK_UN)
            assert process.is_alive()
        assert path_of(at("a"), "-wal").exists()
    process.join()

    assert [] == [*(tmp_path / "a").glob("roster.db-*")]
    assert ["x"] == ids(at("a"))


#: A process whose thread for the metrics has a connection when the process ends.
ENDING = """
from app import create_app
from app.metrics import gathering
from app.metrics.shared_pages import new_memory
from app.store import opening

gathering.TICK, opening.CHECK_INTERVAL = 0.001, 0
services = create_app().extensions["roster"]
services.store.open(create=True)
services.metrics.share(new_memory(), 0)
while services.store.backend.reading.pool.checkedout() < 2:
    pass
"""


@pytest.mark.slow
def test_a_process_that_ends_closes_the_connections_of_its_threads(at, tmp_path):
    """The thread of the metrics ends before the store is closed, and the database is one file."""
    environ = {**os.environ, "ROSTER_INSTANCE_PATH": str(tmp_path / "a")}
    done = subprocess.run(
        [sys.executable, "-c", ENDING], env=environ, capture_output=True, text=True, check=True
    )

    assert "" == done.stderr
    assert [] == [*(tmp_path / "a").glob("roster.db-*")]
    assert 1 == at("a").position().revision
