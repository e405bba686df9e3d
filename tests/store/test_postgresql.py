"""What is particular to PostgreSQL: the server, and how it comes and goes."""

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from app import create_app
from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store import postgresql
from app.store.store import Store
from tests.postgresql import Cluster, wait_until
from tests.writing import write

pytestmark = pytest.mark.needs("initdb", "postgresql")

NOW = 1_800_000_000


@pytest.fixture
def open_store(tmp_path, clock):
    """Return stores on the databases of URLs; all are closed in the end."""
    stores = []

    def start(url, name="instance"):
        stores.append(Store(Settings(instance_path=tmp_path / name, database_url=url), clock))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def empty(cluster):
    """The URL of a database without any table."""
    name = cluster.create()
    yield cluster.url(name)
    cluster.drop(name)


@pytest.fixture(scope="module")
def fragile():
    """A server that tests may stop."""
    started = Cluster()
    yield started
    started.remove()


@pytest.fixture
def own(fragile):
    """The URL of a database on the server that tests may stop."""
    return fragile.url(fragile.create())


def put(store, model_id):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        return write(transaction, Model.compose({"id": model_id}, now=NOW))


def refusal(call):
    with pytest.raises(StoreUnavailable) as refused:
        call()
    return refused.value.reason


def test_a_server_makes_the_tables_and_nobody_else(open_store, empty):
    """An empty database is no catalogue until a server's start makes it one."""
    store = open_store(empty)
    sentence = f"There is no database {empty}: a server's start and 'flask db upgrade' make one."

    assert [sentence] * 2 == [refusal(store.open), refusal(store.position)]
    store.open(create=True)
    assert (1, 1) == (store.position().revision, len(store.load().keys))


def test_eight_first_starts_make_one_database(open_store, empty):
    """Eight that start at once, on hosts of their own, make one schema and one key."""
    stores = [open_store(empty, f"host-{number}") for number in range(8)]
    threads = [threading.Thread(target=store.open, kwargs={"create": True}) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 8 == [store.position().revision for store in stores]
    assert [1] * 8 == [len(store.load().keys) for store in stores]
    assert 1 == sum(store.settings.first_key_path.exists() for store in stores)


def test_what_the_server_says_is_one_readable_line(open_store, empty, cluster):
    """A reason is the server's sentence alone: without the statement, a mark below it, a tab."""
    store = open_store(empty)
    store.open(create=True)
    database = empty.partition("///")[2].partition("?")[0]
    with cluster.connect(database) as connection:
        connection.execute("ALTER TABLE catalogue RENAME TO lost")

    assert 'relation "catalogue" does not exist' == refusal(store.position)


@pytest.mark.parametrize("rest", ["?schema=public", "?connect_timeout=3&schema=public"])
def test_a_parameter_that_libpq_does_not_know_is_named(open_store, empty, rest):
    """Other programs put the schema there; what to write instead works."""
    url, _, host = empty.partition("?")
    refused = refusal(open_store(f"{url}{rest}&{host}").position)

    assert (
        "The URL of the database has the parameter 'schema', which libpq does not know: leave it "
        "out. A schema is named by options=-csearch_path%3DNAME."
    ) == refused
    store = open_store(f"{empty}&options=-csearch_path%3Dpublic")
    store.open(create=True)
    assert 1 == store.position().revision


def test_a_part_of_a_password_is_no_parameter(open_store):
    """It is not repeated, although it has the form of one."""
    assert "hunter2" not in refusal(open_store("postgresql://u:p@h/x?hunter2=a@b&c=d").position)


def test_each_server_that_was_tried_has_one_sentence(open_store):
    """Of several servers, each has its failure, once, and questions begin a sentence."""
    with ExitStack() as stack:
        ports = []
        for _ in range(2):  # bound, and nobody listens
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        reason = refusal(open_store(f"postgresql://{hosts}/x").position)

    question = "Is the server running on that host and accepting TCP/IP connections?"
    server = 'connection failed: connection to server at "127.0.0.1", port'

    assert (
        "; ".join(f"{server} {port} failed: Connection refused. {question}" for port in ports)
        == reason
    )


def test_another_encoding_is_refused(open_store, cluster):
    """A database that cannot hold every text is refused before there are tables in it."""
    cluster.execute(
        "CREATE DATABASE latin TEMPLATE template0 "
        "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    )

    assert "has the encoding LATIN1" in refusal(
        lambda: open_store(cluster.url("latin")).open(create=True)
    )


def test_a_missing_driver_is_told(open_store, empty, monkeypatch):
    """Without the extra a start says what to install; other commands go on."""
    monkeypatch.setitem(sys.modules, "app.store.postgresql", None)
    store = create_app(Settings(database_url=empty)).extensions["roster"].store

    with pytest.raises(StoreRefused) as refused:
        store.open(create=True)
    assert "pip install 'psycopg[binary]'" in refused.value.reason


def test_no_part_of_a_password_is_told(open_store):
    """A URL that cannot be read is refused without repeating any of it."""
    reason = refusal(open_store("postgresql://me:sec%zzret@host/x").open)

    assert "The URL of the database is none of PostgreSQL." in reason
    assert "sec" not in reason
    assert "ret" not in reason


def test_backups_are_the_servers(open_store, empty, tmp_path):
    """A backup is left to the server's tools, and the sentence names the one."""
    store = open_store(empty)
    store.open(create=True)

    assert "pg_dump" in refusal(lambda: store.backup(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_writer_waits_so_long_and_no_longer(open_store, empty, monkeypatch):
    """A writer whose turn does not come in time is refused, and others go on."""
    monkeypatch.setattr(
        postgresql,
        "_SESSION",
        postgresql._SESSION.replace("lock_timeout = '5s'", "lock_timeout = '50ms'"),
    )
    first, second = open_store(empty), open_store(empty)
    first.open(create=True)
    second.open()
    with first.transaction(actor=Actor("test"), now=NOW):
        assert "lock timeout" in refusal(lambda: put(second, "x"))

    assert 2 == put(second, "x").revision


def test_a_restart_costs_one_retried_read(open_store, fragile, own):
    """After a restart of the server the next read and the next write succeed."""
    store = open_store(own)
    store.open(create=True)
    put(store, "before")
    assert 2 == store.position().revision
    for mode in ("immediate", "fast"):
        fragile.stop(mode)
        fragile.start()

        assert 2 == store.position().revision
    fragile.stop()
    fragile.start()
    assert 3 == put(store, "after").revision
    assert ["after", "before"] == sorted(model.id for model in store.load().models)


def test_sessions_that_all_end_cost_no_write(open_store, fragile, own):
    """Right after a write, too: the read of the revision before the next one closes idle ones."""
    store = open_store(own)
    store.open(create=True)
    store.position()
    put(store, "x")
    fragile.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )

    assert 2 == store.position().revision
    assert 3 == put(store, "y").revision


@contextmanager
def standing_still(server):
    """Stop every process of `server`: its host still accepts connections, and nobody answers."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    processes = [server.pid, *map(int, children.split())]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            with suppress(ProcessLookupError):  # it was ending, and its parent goes on first
                os.kill(pid, signal.SIGCONT)


def test_a_server_that_stands_still_is_an_outage(open_store, fragile, own, monkeypatch):
    """A silent server holds up neither readers nor writers for long, and is found again."""
    monkeypatch.setattr(postgresql._Session, "patience", 0.5)
    monkeypatch.setitem(postgresql._DEFAULTS, "connect_timeout", "2")  # libpq's least
    store = open_store(own)
    store.open(create=True)
    put(store, "x")
    store.position()
    with standing_still(fragile):
        assert "The database has not answered for 0.5 s." == refusal(store.position)
        assert "connection timeout expired" in refusal(lambda: put(store, "y"))

    assert 2 == once_back(store.position).revision
    assert 3 == once_back(lambda: put(store, "y")).revision


def test_a_silent_server_is_asked_on_no_other_connection(open_store, fragile, own, monkeypatch):
    """What one thread has waited for in vain, others do not wait for on theirs, one by one."""
    monkeypatch.setattr(postgresql._Session, "patience", 0.5)
    store = open_store(own)
    store.open(create=True)
    made = []
    connect = postgresql._Session.connect
    with ThreadPoolExecutor(1) as other:
        store.position()
        other.submit(store.position).result()
        with standing_still(fragile):
            refusal(store.position)
        monkeypatch.setattr(
            postgresql._Session, "connect", lambda *a, **k: made.append(1) or connect(*a, **k)
        )
        assert 1 == other.submit(once_back, store.position).result().revision
        assert 1 == once_back(store.position).revision

    assert 2 == len(made)


def test_a_locked_log_holds_up_no_metrics(open_store, empty, monkeypatch):
    """The size of a log that is locked is waited for as long as the revision, and no longer."""
    monkeypatch.setattr(postgresql._Session, "patience", 0.1)
    store = open_store(empty)
    store.open(create=True)
    with store.backend.reading.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE changes IN ACCESS EXCLUSIVE MODE")

        assert "The database has not answered for 0.1 s." == refusal(store.measure)
    assert 1 == store.measure().log_changes


def test_one_of_many_readers_tries_to_connect(open_store, fragile, own, monkeypatch):
    """Of readers who meet a lost server one waits for it, and after that nobody for a while."""
    monkeypatch.setattr(postgresql._Session, "patience", 0.5)
    monkeypatch.setitem(postgresql._DEFAULTS, "connect_timeout", "2")
    # However slow this machine is, nobody tries again here. That somebody does after the pause is
    # shown by `test_a_server_that_stands_still_is_an_outage`.
    monkeypatch.setattr(postgresql, "_PAUSE", 1000.0)
    store = open_store(own)
    store.open(create=True)
    store.position()
    attempts, refusals = [], []
    connect = postgresql._Session.connect

    def counted(*args, **kwargs):
        attempts.append(len(refusals))
        wait_until(lambda: len(refusals) >= attempts[0] + 3)  # the others do not wait for its end
        return connect(*args, **kwargs)

    monkeypatch.setattr(postgresql._Session, "connect", counted)

    def read(_):
        refusals.append(refusal(store.position))

    with standing_still(fragile):
        refusal(store.position)
        with ThreadPoolExecutor(4) as readers:
            list(readers.map(read, range(400)))

    assert 1 == len(attempts)
    assert 400 == len(refusals)
    other = open_store(own)
    assert 1 == once_back(other.position).revision


def test_a_connection_that_has_become_read_only_is_dropped(open_store, empty):
    """One write is refused and no more: the next one is on a new connection."""
    store = open_store(empty)
    store.open(create=True)
    with (
        store.backend.reading.connect() as connection
    ):  # as on a server that was the primary before
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.commit()

    assert "cannot execute UPDATE in a read-only transaction" in refusal(lambda: put(store, "x"))
    assert 2 == put(store, "x").revision


def once_back(read):
    """Return what `read` gives as soon as it can."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return read()
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
