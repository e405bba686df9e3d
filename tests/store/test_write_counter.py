"""The write counter: a reader reads the database when somebody may have written, and only then."""

import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from contextlib import closing

import pytest
import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.model import Model
from app.catalog.ports import Actor, Position
from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from tests.writing import write

NOW = 1_800_000_000
PATIENCE = 60.0  # seconds
#: Of a user that this machine need not know.
STRANGER = 54321
fork = multiprocessing.get_context("fork")


class StoppedTime:
    """A monotonic clock that a test sets, and with it the time of the regular check."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def monotonic():
    return StoppedTime()


@pytest.fixture
def reads(settings):
    """Return what counts the reads of the revision since it was last asked."""
    seen = []

    def count():
        found = len(seen)
        seen.clear()
        return found

    count.note = lambda statement: seen.append(statement) if "revision <>" in statement else None
    return count


@pytest.fixture
def store(settings, clock, monotonic, reads):
    opened = Store(settings, clock, monotonic)
    sa.event.listen(
        opened.backend.reading, "connect", lambda driver, _: driver.set_trace_callback(reads.note)
    )
    opened.open(create=True)
    opened.position()
    reads()
    yield opened
    opened.close()


@pytest.fixture
def counter(settings):
    """The path of the file."""
    return settings.instance_path / "roster.db.writes"


def put(store, model_id):
    model = Model.compose({"id": model_id}, now=NOW)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        return write(transaction, model).revision


def in_another_process(work):
    """Do some work in a process of its own and return the exit code."""
    process = fork.Process(target=work)
    process.start()
    process.join(PATIENCE)
    return process.exitcode


def test_nobody_reads_while_nothing_is_written(store, reads):
    """After one read the revision is known, however often it is asked for."""
    known = store.position().revision
    reads()

    assert [known] * 100 == [store.position().revision for _ in range(100)]
    assert 0 == reads()


def test_a_write_is_seen_at_once(store, reads, settings, clock):
    """Each write of another store on the same file costs one read, and is seen by it."""
    other = Store(settings, clock)
    for model_id in "abc":
        written = put(other, model_id)
        reads()

        assert [written, written] == [store.position().revision, store.position().revision]
        assert 1 == reads()
    other.close()


def test_while_somebody_writes_the_database_is_read(store, reads):
    """Inside a transaction, and until it has ended, the counter says nothing."""
    before = store.position().revision
    reads()
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        write(transaction, Model.compose({"id": "x"}, now=NOW))

        assert [before, before] == [store.position().revision, store.position().revision]
        assert 2 == reads()
    assert before + 1 == store.position().revision


def kill_in_the_middle_of_a_write(store):
    with store.transaction(actor=Actor("test"), now=NOW):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_hides_nothing(store, reads, settings, clock):
    """After a kill in the middle of a write each read reads, until the next write has ended."""
    writer = Store(settings, clock)

    assert -9 == in_another_process(lambda: kill_in_the_middle_of_a_write(writer))
    reads()
    assert store.position().revision == store.position().revision
    assert 2 == reads()
    written = put(store, "x")
    store.position()
    reads()
    assert written == store.position().revision
    assert 0 == reads()


def test_a_copy_put_back_during_a_write_hides_nothing(store, settings, clock, counter):
    """An earlier copy of the file that replaces it during a write is seen, and so is the write."""
    other = Store(settings, clock)
    put(other, "a")
    copy = counter.with_name("copy")
    shutil.copy2(counter, copy)
    with other.transaction(actor=Actor("test"), now=NOW) as transaction:
        write(transaction, Model.compose({"id": "b"}, now=NOW))
        copy.replace(counter)
        before = store.position().revision
    after = store.position().revision
    other.close()

    assert before + 1 == after


def test_the_write_of_another_program_is_seen_at_the_next_regular_read(store, settings, monotonic):
    """Another program counts no writes; the database is read once a second all the same."""
    before = store.position().revision
    with closing(sqlite.connect(settings.database_path)) as other, other:
        other.execute("UPDATE catalogue SET revision = revision + 1")

    assert before == store.position().revision
    monotonic.now += 1
    assert before + 1 == store.position().revision


def test_opening_the_database_does_not_delay_the_regular_read(store, settings, monotonic):
    """A scrape of the metrics between two reads does not hide the write of another program."""
    before = store.position().revision
    with closing(sqlite.connect(settings.database_path)) as other, other:
        other.execute("UPDATE catalogue SET revision = revision + 1")
    monotonic.now += 0.75
    store.measure()
    monotonic.now += 0.75

    assert before + 1 == store.position().revision


# Another file in place of the database


@pytest.fixture
def replace_database(settings, clock, tmp_path):
    """Return what puts another database in place of the store's, as `mv` does."""
    other = Store(Settings(instance_path=tmp_path / "other"), clock)
    other.open(create=True)
    for model_id in "xyz":
        put(other, model_id)
    there = other.position()
    other.close()

    def replace():
        for companion in settings.instance_path.glob("roster.db-*"):
            companion.rename(companion.with_name(f"old-{companion.name}"))
        other.settings.database_path.rename(settings.database_path)
        return there

    return replace


def stored_position(store):
    stored = store.load()
    return Position(stored.revision, stored.mark)


def test_a_replaced_file_is_seen_as_soon_as_it_is_opened(store, monotonic, replace_database):
    """Once anything has opened the new file, nobody is given the position in the old one."""
    store.position()
    monotonic.now += 0.9
    there = replace_database()
    store.measure()

    assert there == store.position()
    assert there == store.position()


def test_a_late_read_of_a_replaced_file_hides_nothing(
    store, monotonic, revision_connections, replace_database
):
    """A thread that reads the old file last does not hide the new one from others."""
    store.close()  # what was opened before is not among the connections
    before = store.position()
    found = []

    def replace(_):
        driver.set_trace_callback(None)
        there = replace_database()
        monotonic.now += 1
        other = threading.Thread(target=lambda: found.extend([there, store.position()]))
        other.start()
        other.join(PATIENCE)

    driver = revision_connections[0].connection.driver_connection
    driver.set_trace_callback(replace)
    monotonic.now += 1

    assert before == store.position()
    there, in_another_thread = found
    assert there == in_another_thread
    assert [there, there] == [store.position(), store.position()]


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 53, 0)], ids=["truncate", "wal"])
def test_a_restored_database_is_read(store, settings, clock, monkeypatch, version):
    """After a restore the store is where the restored file is, in each journal mode."""
    monkeypatch.setattr(sqlite, "sqlite_version_info", version)
    store.close()
    store.open()
    backup = settings.instance_path.with_name("backup.db")
    store.backup(backup)
    put(store, "x")
    before = store.position()
    store.close()
    Store(settings, clock).restore(backup, actor=Actor("test"))
    store.open()
    position = store.position()

    assert before != position
    assert stored_position(store) == position


# What may happen to the file


def truncated(path):
    os.truncate(path, 0)


def touched(path):
    path.touch()


def copied_over(path):
    path.write_bytes(b"x" * 16)


def removed(path):
    path.unlink()


def moved_away(path):
    path.rename(path.with_name("elsewhere"))


def copied_and_replaced(path):
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def made_a_folder(path):
    path.unlink()
    path.mkdir()


def made_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def made_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def made_a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def given_away(path):
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(path, STRANGER, STRANGER)


HARMLESS = [truncated, touched, copied_over, removed, moved_away, copied_and_replaced]
#: What is not ours under a name of ours: writers refuse it.
REFUSED = [made_a_folder, made_a_link, made_a_pipe, made_a_device, given_away]


@pytest.mark.parametrize("reads_meanwhile", [False, True])
@pytest.mark.parametrize("happen", [*HARMLESS, *REFUSED])
def test_no_harm_to_the_file_kills_a_reader_or_hides_a_write(
    store, settings, clock, happen, reads_meanwhile
):
    """Whatever becomes of the file, the very next read sees what another process has written."""
    writer = Store(settings, clock)
    ours, theirs = fork.Pipe()

    def read():
        while theirs.recv():
            theirs.send(store.position().revision)

    def read_there():
        ours.send(b"next")
        return ours.recv()

    def write():
        try:
            os._exit(put(writer, "x"))
        except StoreUnavailable:
            os._exit(0)

    reader = fork.Process(target=read, daemon=True)
    reader.start()
    theirs.close()
    before = read_there()
    happen(settings.instance_path / "roster.db.writes")
    assert not reads_meanwhile or before == read_there()
    written = in_another_process(write)

    assert (0 if happen in REFUSED else before + 1) == written
    assert max(before, written) == read_there()
    reader.kill()
    reader.join()


def test_a_file_that_was_removed_is_made_anew(store, reads, counter):
    """The next write makes the file, and readers trust it again."""
    counter.unlink()
    written = put(store, "x")

    assert written == store.position().revision
    reads()
    assert written == store.position().revision
    assert 0 == reads()


def test_killed_writers_and_a_harmed_file_hide_no_write(store, settings, clock, counter):
    """Of writers that are killed at any time, each write that was acknowledged is seen at once."""
    acknowledged = fork.Value("q", 0)
    randomly = random.Random(4)

    def write(name):
        writer = Store(settings, clock)
        for number in range(1000):
            revision = put(writer, f"{name}-{number}")
            with acknowledged.get_lock():
                acknowledged.value = max(acknowledged.value, revision)

    def started(name):
        process = fork.Process(target=write, args=(name,))
        process.start()
        return process

    writers = [started(f"w{number}") for number in range(4)]
    try:
        for step in range(8):
            enough = acknowledged.value + 10
            deadline = time.monotonic() + PATIENCE
            while acknowledged.value < enough:
                assert time.monotonic() < deadline
                known = acknowledged.value
                assert known <= store.position().revision
            with acknowledged.get_lock():  # else the lock would be lost with the process
                writers[step % 4].kill()
            writers[step % 4].join()
            randomly.choice([truncated, touched, removed, copied_and_replaced])(counter)
            writers[step % 4] = started(f"s{step}")
    finally:
        for process in writers:
            process.kill()
            process.join()

    assert store.load().revision == store.position().revision


def locked():
    raise sqlite.OperationalError("database is locked")


def test_an_unchanged_counter_hides_no_outage(store, monotonic, revision_connections, monkeypatch):
    """Once a read has failed, the position that was known before is not given."""
    store.close()  # what was opened before is not among the connections
    known = store.position().revision
    revision_connections[0].connection.driver_connection.close()
    monotonic.now += 1
    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "revision_connection", locked)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                store.position()

    assert known == store.position().revision
