"""Writes: all or nothing, one revision and one line each; and how readers follow them."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from app.catalog import keys as api_keys
from app.catalog.errors import StoreUnavailable
from app.catalog.model import Model
from app.catalog.ports import Actor, Change, Position
from app.settings import Settings
from app.store.backend import WRITE_TIMEOUT
from app.store.documents import read_key, read_model, write_key, write_model
from app.store.sqlite.connection import sqlite, wait_for_others
from app.store.store import Store
from tests.sql import before_statements
from tests.writing import write

pytestmark = pytest.mark.databases("sqlite", "postgresql")
ON_A_FILE = pytest.mark.databases("sqlite")

NOW = 1_800_000_000


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


def model(model_id="x", **fields):
    return Model.compose({"id": model_id, **fields}, now=NOW)


def put(store, new, before=None):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        return write(transaction, new, before)


def since(store, revision):
    [mark] = [line["mark"] for line in log(store) if line["revision"] == revision] or [""]
    return store.changes_since(Position(revision, mark))


def log(store):
    with store.backend.reading.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM changes ORDER BY revision"))
        return [dict(row._mapping) for row in rows]


def test_an_entry_survives_the_store():
    """What is written of an entry is what is read, its revision aside."""
    full = model(
        name="X",
        description="",
        context_length=1,
        architecture={"input_modalities": ["text"]},
        supported_parameters=["tools"],
        pricing={"prompt": "0.0000025"},
        metadata={"k": "v"},
        web_work_status=0,
        permission=[{"group": "g", "organization": "o"}, {}],
        available_from=0,
    )

    assert full == read_model(write_model(full), 7)
    assert 7 == read_model(write_model(full), 7).revision


def test_a_key_survives_the_store():
    """What is written of a key is what is read; the document has no digest."""
    secret = api_keys.mint()
    key = api_keys.describe(secret, name="n", created=NOW, groups=("a", "b"), expires_at=NOW)

    assert key == read_key(key.kid, key.digest, write_key(key))
    assert key.digest not in write_key(key)


def test_every_change_takes_a_revision_and_a_line(store):
    """Create, update and delete leave who, when, before and after in the log."""
    first = put(store, model(owned_by="a"))
    second = put(store, model(owned_by="b"), first)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.write([Change(second, None)])

    assert [2, 3, 4] == [first.revision, second.revision, store.position().revision]
    lines = [(c["revision"], c["at"], c["actor"], c["action"], c["model_id"]) for c in log(store)]
    assert [
        (1, NOW, "start", "key.create", None),
        (2, NOW, "test", "model.create", "x"),
        (3, NOW, "test", "model.update", "x"),
        (4, NOW, "test", "model.delete", "x"),
    ] == lines
    assert (None, write_model(first)) == (log(store)[1]["before"], log(store)[1]["after"])
    assert (write_model(first), write_model(second)) == (
        log(store)[2]["before"],
        log(store)[2]["after"],
    )
    assert (write_model(second), None) == (log(store)[3]["before"], log(store)[3]["after"])


def test_several_changes_of_one_write_take_a_revision_each(store):
    """The log has one line for each revision, without a gap, also within one transaction."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        revisions = [write(transaction, model(i)).revision for i in "abc"]

    assert [2, 3, 4] == revisions
    assert [1, 2, 3, 4] == [line["revision"] for line in log(store)]


def test_many_changes_are_written_together(store):
    """Entries are added, changed and removed by one write, in order, with a name of its own."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        changed, removed = (write(transaction, model(i)) for i in "ab")
    changes = [
        Change(None, model("c")),
        Change(changed, model("a", name="A")),
        Change(removed, None),
    ]
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        base = transaction.base
        last = transaction.write(changes, "import:test")
    lines = log(store)[-3:]

    assert {("a", "A"), ("c", None)} == {(m.id, m.name) for m in store.load().models}
    assert [(i, "import:test") for i in "cab"] == [(x["model_id"], x["action"]) for x in lines]
    assert [base.revision + 1 + n for n in range(3)] == [line["revision"] for line in lines]
    assert {base.revision + 1} == {line["batch"] for line in lines}
    assert 3 == len({line["mark"] for line in lines})
    assert Position(last, lines[-1]["mark"]) == store.position()
    assert {"a", "b", "c"} == {*store.changes_since(base).models}


def test_an_alias_may_change_hands_in_one_write(store):
    """Two entries exchange their aliases, whichever of them is first."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        a = write(transaction, model("a", aliases=["x"]))
        b = write(transaction, model("b", aliases=["y"]))
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.write([Change(a, a.updated({"aliases": ["y"]})), Change(b, None)])
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        found = transaction.models_of(["x", "y"])

    assert {"y": "a"} == {name: entry.id for name, entry in found.items()}


@pytest.mark.parametrize("number", range(1, 8))
def test_a_failure_of_any_statement_leaves_nothing(store, number):
    """If the n-th statement of a write of many changes fails, none of them took place."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        changed, removed = (write(transaction, model(i, aliases=[i * 2])) for i in "ab")
    before = store.load()
    changes = [
        Change(None, model("c", aliases=["bb"])),
        Change(changed, model("a", aliases=["new"])),
        Change(removed, None),
    ]
    run = 0

    def fail(*_):
        nonlocal run
        run += 1
        if run == number:
            raise RuntimeError("the statement failed")

    with (
        pytest.raises(RuntimeError),
        store.transaction(actor=Actor("test"), now=NOW) as transaction,
        before_statements(fail),
    ):
        transaction.write(changes)

    assert before == store.load()


def test_a_write_that_changes_nothing_takes_no_revision(store):
    """Reading inside a transaction leaves no trace."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        assert {} == transaction.models_of(["x"])

    assert 1 == store.position().revision


def test_a_failed_write_leaves_nothing(store):
    """An error inside the block takes back all of it."""
    with (
        pytest.raises(ZeroDivisionError),
        store.transaction(actor=Actor("t"), now=NOW) as transaction,
    ):
        write(transaction, model("a"))
        _ = 1 / 0

    assert 1 == store.position().revision
    assert [] == list(store.load().models)
    assert 1 == len(log(store))


def test_the_feed_tells_what_changed(store):
    """Followers get the newest state of each entry that changed, None for one that is gone."""
    put(store, model("kept"))
    put(store, model("edited", owned_by="b"), put(store, model("edited", owned_by="a")))
    gone = put(store, model("gone"))
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.write([Change(gone, None)])
    changes = since(store, 2)

    assert store.position().revision == changes.revision
    assert {"edited", "gone"} == set(changes.models)
    assert "b" == changes.models["edited"].owned_by
    assert changes.models["gone"] is None


def test_the_feed_tells_of_keys(store):
    """Followers get the newest state of each key that changed."""
    secret = api_keys.mint()
    key = api_keys.describe(secret, name="n", created=NOW)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.put_key(key, None, "key.create")

    assert {key.kid: key} == since(store, 1).keys


def test_a_log_with_a_gap_tells_nothing(store):
    """Where the log lacks a revision, followers load everything."""
    for name in "abc":
        put(store, model(name))
    with store.backend.reading.begin() as connection:
        connection.execute(sa.text("DELETE FROM changes WHERE revision = 2"))

    assert [None, None, None] == [since(store, revision) for revision in (1, 2, 99)]
    assert since(store, 3) is not None


def test_each_change_has_a_mark_and_a_transaction_a_batch(store):
    """No two changes have the same mark; the lines of one transaction share their batch."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for name in "ab":
            write(transaction, model(name))
    put(store, model("c"))
    lines = log(store)

    assert [1, 2, 2, 4] == [line["batch"] for line in lines]
    assert 4 == len({line["mark"] for line in lines})
    assert lines[-1]["mark"] == store.position().mark


def test_the_log_of_another_history_tells_nothing(store):
    """Behind a change with the same number and another mark, followers load everything."""
    put(store, model("a"))
    position = store.position()
    put(store, model("b"))

    assert ["b"] == list(store.changes_since(position).models)
    assert None is store.changes_since(position._replace(mark="another"))


def test_a_broken_connection_is_replaced(store, revision_connections, monkeypatch):
    """A reader whose connection fails opens another one, and nobody notices."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    store.position()
    revision_connections[0].connection.driver_connection.close()

    assert 1 == store.position().revision
    assert 2 == len(revision_connections)


def test_a_lost_table_is_an_outage(store):
    """A database that is no longer ours is an outage, for readers and writers."""
    with store.backend.reading.begin() as connection:
        connection.execute(sa.text("DROP TABLE catalogue"))

    with pytest.raises(StoreUnavailable):
        store.position()
    with pytest.raises(StoreUnavailable):
        store.load()
    with pytest.raises(StoreUnavailable):
        put(store, model())


@ON_A_FILE
def test_a_locked_database_refuses_writes_and_serves_reads(store, settings, clock, monkeypatch):
    """While another program holds the write lock, reads go on and a write is an outage."""
    monkeypatch.setattr("app.store.writing.WRITE_TIMEOUT", 0.05)
    impatient = Store(settings, clock)
    impatient.open()
    holder = sqlite.connect(store.settings.database_path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    assert 1 == impatient.position().revision
    with pytest.raises(StoreUnavailable) as refused:
        put(impatient, model())
    assert "database is locked" == refused.value.reason
    holder.execute("ROLLBACK")
    holder.close()
    assert 2 == put(impatient, model()).revision
    impatient.close()


def test_concurrent_writers_lose_nothing(store):
    """Writers of many threads queue: each change is there, at a revision of its own."""
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        for step in range(10):
            put(store, model(f"m-{number}-{step}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 81 == store.position().revision
    assert 80 == len(list(store.load().models))
    assert list(range(1, 82)) == [line["revision"] for line in log(store)]


def test_each_thread_has_a_connection_of_its_own(store, revision_connections, monkeypatch):
    """A thread reads the revision repeatedly on one connection, which no other thread uses."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    for expected in ("one", "one", "another", "one"):
        if expected == "one":
            store.position()
        else:
            thread = threading.Thread(target=store.position)
            thread.start()
            thread.join()

    assert 2 == len(set(map(id, revision_connections)))
    assert 2 == len(revision_connections)


@ON_A_FILE
def test_a_lost_file_is_an_outage(store, monkeypatch):
    """A database whose file is gone is neither written to nor made anew."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    store.position()
    for path in store.settings.database_path.parent.glob("roster.db*"):
        path.unlink()

    for use in (store.position, store.load, lambda: put(store, model()), store.open):
        with pytest.raises(StoreUnavailable) as refused:
            use()
        assert (f"The database {store.name} is gone: put it back.") == refused.value.reason
    assert not store.settings.database_path.exists()


@ON_A_FILE
def test_a_file_that_one_thread_misses_is_gone_for_all(store):
    """A check by one thread is valid for the others, also within a second of theirs."""
    with ThreadPoolExecutor(1) as other:
        assert 1 == other.submit(store.position).result().revision
        for path in store.settings.instance_path.glob("roster.db*"):
            path.unlink()
        with pytest.raises(StoreUnavailable):
            store.open()
        with pytest.raises(StoreUnavailable):
            other.submit(store.position).result()
        other.submit(store.close).result()


@ON_A_FILE
def test_a_read_only_file_is_an_outage(store, monkeypatch):
    """What may not be written is not opened: its connections would stay read-only."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    store.position()
    monkeypatch.setattr("app.store.sqlite.backend.os.access", lambda *_: False)
    for use in (store.position, store.load, lambda: put(store, model()), store.open):
        with pytest.raises(StoreUnavailable) as refused:
            use()
        assert (
            f"The database {store.name} cannot be written: its disk is read-only, or its "
            "permissions do not allow it."
        ) == refused.value.reason


@ON_A_FILE
def test_another_file_in_its_place_is_read(store, clock, tmp_path, monkeypatch):
    """A database that replaces ours is the one that is read and written from then on."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    put(store, model("old"))
    other = Store(Settings(instance_path=tmp_path / "other"), clock)
    other.open(create=True)
    put(other, model("new"))
    put(other, model("newer"))
    other.close()
    for log in store.settings.database_path.parent.glob("roster.db-*"):
        log.unlink()  # it belongs to the file that is replaced
    other.settings.database_path.replace(store.settings.database_path)

    assert 3 == store.position().revision
    assert {"new", "newer"} == {entry.id for entry in store.load().models}
    assert 4 == put(store, model("newest")).revision


@ON_A_FILE
def test_a_missing_database_is_an_outage(settings, clock):
    """Without `create`, a missing database is not made."""
    store = Store(settings, clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.open()
    with pytest.raises(StoreUnavailable):
        store.position()

    assert not settings.instance_path.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE models SET document = '{'",
        "UPDATE models SET document = '[]'",
        'UPDATE models SET document = \'{"id":"x","permission":[]}\'',
        "UPDATE keys SET document = '{\"name\":1}'",
        "DELETE FROM catalogue",
    ],
)
def test_a_row_that_is_not_ours_is_an_outage(store, statement):
    """What this program cannot read it does not guess: the last snapshot goes on serving."""
    put(store, model())
    with store.backend.reading.begin() as connection:
        connection.exec_driver_sql(statement)

    with pytest.raises(StoreUnavailable):
        store.load()


@pytest.mark.slow
@ON_A_FILE
def test_random_damage_is_never_a_short_list(store, settings, clock, tmp_path):
    """A file with damage anywhere is read whole, or not at all."""
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for number in range(50):
            write(transaction, model(f"m{number}", description="x" * 300))
    whole = tmp_path / "whole.db"
    store.backup(whole)
    content = whole.read_bytes()
    chance = random.Random(1)
    outcomes = []
    for _ in range(100):
        damaged = bytearray(content)
        place = chance.randrange(len(content) - 64)
        damaged[place : place + 64] = chance.randbytes(64)
        folder = tmp_path / "damaged"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        (folder / "roster.db").write_bytes(damaged)
        reader = Store(Settings(instance_path=folder), clock)
        try:
            outcomes.append(len(reader.load().models))
        except StoreUnavailable:
            outcomes.append(None)
        reader.close()

    assert {50, None} == set(outcomes)


def test_mistakes_of_ours_are_not_outages(store):
    """A statement that is wrong is an error to be logged, and not something to try again."""
    put(store, model())
    with pytest.raises(sa.exc.IntegrityError):
        put(store, model())


@ON_A_FILE
def test_a_writer_waits_so_long_and_no_longer(store, settings, clock, monkeypatch):
    """A writer that cannot get its turn in time is refused, within a process and between two."""
    monkeypatch.setattr("app.store.writing.WRITE_TIMEOUT", 0.05)
    other = Store(settings, clock)
    other.open()
    with store.transaction(actor=Actor("test"), now=NOW):
        for waiting in (other, store):
            if waiting is store:  # the same thread would wait for itself: another one does
                with ThreadPoolExecutor(1) as pool:
                    refused = pool.submit(put, store, model()).exception()
            else:
                with pytest.raises(StoreUnavailable) as raised:
                    put(other, model())
                refused = raised.value
            assert "Others have held" in refused.reason
    other.close()


@ON_A_FILE
def test_waiting_in_the_queue_is_taken_off_the_wait_for_sqlite(store, monkeypatch):
    """A writer has one deadline: what it waited for our writers, it waits less for others."""
    waits = []

    def noted(connection, seconds, then):
        waits.append(seconds)
        wait_for_others(connection, seconds, then)

    monkeypatch.setattr("app.store.sqlite.connection.wait_for_others", noted)
    arriving = threading.Event()

    def arrive():
        arriving.set()
        put(store, model("later"))

    with ThreadPoolExecutor(1) as pool:
        with store.transaction(actor=Actor("test"), now=NOW):
            later = pool.submit(arrive)
            assert arriving.wait(30)
            time.sleep(0.5)  # what the other waits, less what it took to ask
        later.result(30)
    _, waited = waits

    assert 0 < waited < WRITE_TIMEOUT - 0.1
