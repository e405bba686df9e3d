"""How a database is opened: made, upgraded, refused, and given its first admin key."""

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from app import create_app
from app.catalog import keys
from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.documents import read_key
from app.store.opening import Opening
from app.store.schema import HEAD
from app.store.sqlite import connection as sqlite_connection
from app.store.sqlite.connection import has_wal_reset_bug, sqlite
from app.store.store import Store


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    yield store
    store.close()


def scalar(store, sql):
    with store.backend.reading.connect() as connection:
        return connection.execute(sa.text(sql)).scalar()


def execute(path, *statements):
    connection = sqlite.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_the_factory_opens_nothing(settings):
    """Making the application touches no file."""
    create_app(settings)

    assert not settings.instance_path.exists()


def test_a_first_start_makes_the_database(store, settings):
    """The first start makes folder, database and schema; the journal is the safe one."""
    store.open(create=True)

    assert 1 == store.position().revision  # the first key is a change

    assert f"{HEAD:04}" == scalar(store, "SELECT version_num FROM alembic_version")
    assert sqlite_connection.journal_mode() == scalar(store, "PRAGMA journal_mode")
    assert 2 == scalar(store, "PRAGMA synchronous")  # FULL
    assert 0 == scalar(store, "PRAGMA trusted_schema")


def test_alembic_is_not_imported_when_the_schema_is_ours(settings, store):
    """A process that finds its own schema does not import Alembic."""
    store.open(create=True)
    code = (
        "import sys; from app import create_app; app = create_app();"
        "app.extensions['roster'].catalog.current();"
        "sys.exit('alembic' in sys.modules)"
    )
    environ = {**os.environ, "ROSTER_INSTANCE_PATH": str(settings.instance_path)}

    assert 0 == subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode


def test_a_file_that_is_no_database_is_refused(store, settings):
    """A corrupt file is an outage with SQLite's reason, never an empty catalogue."""
    settings.instance_path.mkdir()
    store.settings.database_path.write_bytes(b"this is no database, " * 100)

    with pytest.raises(StoreUnavailable) as refused:
        store.open(create=True)

    assert "file is not a database" in refused.value.reason


@pytest.mark.slow
def test_a_corrupt_page_is_never_a_short_list(store, settings, admin):
    """A page of the entries that cannot be read is an outage, not a list without them."""
    for number in range(300):
        admin.add(f"model-{number:03}", description="x" * 400)
    content = bytearray(copy_of(store).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096 * 4] = b"\xff" * 4096 * 4
    damaged = settings.instance_path.parent / "damaged"
    damaged.mkdir()
    (damaged / "roster.db").write_bytes(content)

    with pytest.raises(StoreUnavailable):
        Store(Settings(instance_path=damaged), lambda: 0).load()


def copy_of(store) -> Path:
    target = store.settings.database_path.with_name("copy.db")
    store.backup(target)
    return target


def test_an_unusable_folder_is_refused(tmp_path, clock):
    """Where the folder cannot be made, the sentence says so."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnavailable) as refused:
        Store(Settings(instance_path=tmp_path / "file" / "instance"), clock).open(create=True)

    assert "Not a directory" in refused.value.reason


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_wal_reset_bug_has_known_versions(version, affected):
    """The affected versions are those that SQLite names."""
    assert affected == has_wal_reset_bug(version)


def test_affected_libraries_run_without_wal(store, settings, clock, monkeypatch, caplog):
    """With a SQLite that has the WAL-reset bug there is no WAL, and a warning that says why."""
    store.open(create=True)
    store.close()
    monkeypatch.setattr(sqlite, "sqlite_version_info", (3, 40, 1))
    affected = Store(settings, clock)

    assert 1 == affected.position().revision
    assert "truncate" == scalar(affected, "PRAGMA journal_mode")
    assert "WAL-reset" in caplog.text
    affected.close()


# The first key


def test_the_first_key_is_for_its_owner_alone(store, settings):
    """The first admin key is in a file of mode 0600 and in the store as its digest."""
    store.open(create=True)
    path = settings.first_key_path
    secret = path.read_text().strip()
    [key] = store.load().keys

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert keys.digest(secret) == key.digest
    assert ("admin",) == key.scopes
    assert secret not in scalar(store, "SELECT group_concat(document) FROM keys")
    assert [path] == list(settings.instance_path.glob("admin-key*"))
    assert 0o640 == stat.S_IMODE(store.settings.database_path.stat().st_mode)


def test_a_store_with_keys_gets_no_other(store, settings):
    """A removed key file is not made again: the operator took it away."""
    store.open(create=True)
    store.close()
    settings.first_key_path.unlink()
    store.open(create=True)

    assert not settings.first_key_path.exists()
    assert 1 == len(list(store.load().keys))


def test_a_key_file_beside_an_empty_store_is_adopted(store, settings):
    """After a crash between file and store, the next start takes the key from the file."""
    secret = keys.mint()
    settings.instance_path.mkdir()
    settings.first_key_path.write_text(secret)
    settings.first_key_path.chmod(0o600)
    store.open(create=True)
    [key] = store.load().keys

    assert keys.digest(secret) == key.digest


def test_a_malformed_key_file_is_refused(store, settings):
    """A key file that holds no key stops the start, and stays as it is."""
    settings.instance_path.mkdir()
    settings.first_key_path.write_text("hello")
    settings.first_key_path.chmod(0o600)

    with pytest.raises(StoreRefused) as refused:
        store.open(create=True)

    assert "does not hold one well-formed key" in refused.value.reason
    assert "hello" == settings.first_key_path.read_text()


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_our_key_file_is_not_for_others(settings, clock, mode):
    """A server does not start while others may read the key that we made, or write it."""
    services = create_app(settings, clock).extensions["roster"]
    services.start()
    services.store.close()
    settings.first_key_path.chmod(mode)

    with pytest.raises(StoreRefused) as refused:
        services.start()

    assert f"run 'chmod o= {settings.first_key_path}'" in refused.value.reason
    settings.first_key_path.chmod(mode & 0o770)
    services.start()
    services.store.close()


def given_key(tmp_path, text) -> Settings:
    path = tmp_path / "given-key"
    path.write_text(text)
    return Settings(instance_path=tmp_path / "instance", admin_key_file=path)


def test_the_operators_key_replaces_ours(tmp_path, clock):
    """With ROSTER_ADMIN_KEY_FILE the key in it is the only one, added once."""
    secret = keys.mint()
    settings = given_key(tmp_path, f"{secret}\n")
    for _ in range(2):
        store = Store(settings, clock)
        store.open(create=True)
        store.add_given_key()
        [key] = store.load().keys
        store.close()

    assert keys.digest(secret) == key.digest
    assert not settings.first_key_path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_an_operators_key_for_others_is_a_warning(tmp_path, clock, caplog, mode):
    """Orchestrators mount a secret for all to read, as a link: it is taken, with a warning."""
    given_key(tmp_path, keys.mint()).admin_key_file.chmod(mode)
    link = tmp_path / "link"
    link.symlink_to("given-key")
    settings = Settings(instance_path=tmp_path / "instance", admin_key_file=link)
    services = create_app(settings, clock).extensions["roster"]
    facts = services.start()
    services.store.close()

    assert facts["admin key"].endswith("link")
    warning = f"Others on this host may read the admin key: 'chmod o= {link}'"
    assert ([warning] if mode == 0o644 else []) == caplog.messages


def test_a_revoked_operators_key_stays_revoked(tmp_path, clock):
    """A start never brings a revoked key back to life."""
    settings = given_key(tmp_path, keys.mint())
    app = create_app(settings, clock)
    services = app.extensions["roster"]
    services.store.open(create=True)
    [key] = services.store.load().keys
    services.administration.revoke_key(key.kid, actor=Actor("test"), last=True)
    services.store.close()
    store = Store(settings, clock)
    store.add_given_key()
    [again] = store.load().keys

    assert "revoked" == again.state(clock())


def test_another_operators_key_is_added(tmp_path, clock):
    """A new key in the file is added to those that are there."""
    for _ in range(2):
        store = Store(given_key(tmp_path, keys.mint()), clock)
        store.open(create=True)
        store.add_given_key()
        store.close()

    assert 2 == len(list(store.load().keys))


def test_a_start_reads_one_key(tmp_path, clock, monkeypatch):
    """However many keys there are, a start reads the operator's alone."""
    secret = keys.mint()
    services = create_app(given_key(tmp_path, secret), clock).extensions["roster"]
    services.store.open(create=True)
    for name in "abc":
        services.administration.create_key({"name": name}, actor=Actor("test"))
    services.store.close()
    read = []

    def noted(kid, digest, document):
        read.append(kid)
        return read_key(kid, digest, document)

    monkeypatch.setattr("app.store.transaction.read_key", noted)
    store = Store(services.settings, clock)
    store.open(create=True)
    store.add_given_key()
    store.close()

    assert [keys.parse_kid(secret)] == read


@pytest.mark.parametrize("text", ["", "ro_short", "two\nlines", "\N{SNOWMAN}"])
def test_a_malformed_operators_key_stops_the_start(tmp_path, clock, text):
    """ROSTER_ADMIN_KEY_FILE must hold one well-formed key."""
    with pytest.raises(StoreRefused) as refused:
        Store(given_key(tmp_path, text), clock).open(create=True)

    assert "given-key" in refused.value.reason


def test_an_operators_key_with_a_taken_id_is_refused(tmp_path, clock):
    """Two keys never share an id, whoever made them."""
    secret = keys.mint()
    store = Store(given_key(tmp_path, secret), clock)
    store.open(create=True)
    store.close()
    body = f"ro_{secret[3:11]}_{'0' * 32}"

    with pytest.raises(StoreRefused) as refused:
        Store(given_key(tmp_path, body + keys._checksum(body)), clock).add_given_key()

    assert "of another key" in refused.value.reason


def test_a_lost_key_file_stops_a_start_and_nothing_else(tmp_path, clock):
    """Without its file a server does not start; one that runs, and commands, go on."""
    settings = given_key(tmp_path, keys.mint())
    store = Store(settings, clock)
    store.open(create=True)
    store.add_given_key()
    store.close()
    settings.admin_key_file.unlink()

    assert 1 == Store(settings, clock).position().revision
    with pytest.raises(StoreRefused):
        Store(settings, clock).add_given_key()


def test_the_draft_of_a_crash_is_cleaned_up(store, settings):
    """What a crash left of a key file is not a key, and does not stay."""
    settings.instance_path.mkdir()
    (settings.instance_path / "admin-key.draft").write_text("ro_half")
    store.open(create=True)

    assert keys.parse_kid(settings.first_key_path.read_text().strip())
    assert [settings.first_key_path] == list(settings.instance_path.glob("admin-key*"))


# Several at once


def open_at(path, barrier, results):
    store = Store(Settings(instance_path=path), lambda: 1_800_000_000)
    barrier.wait()
    store.open(create=True)
    results.put((store.position().revision, len(list(store.load().keys))))


def test_eight_first_starts_make_one_database(tmp_path):
    """Eight processes that start at once on an empty folder make one schema and one key."""
    fork = multiprocessing.get_context("fork")
    for round_number in range(5):
        barrier, results = fork.Barrier(8), fork.Queue()
        path = tmp_path / str(round_number)
        started = [fork.Process(target=open_at, args=(path, barrier, results)) for _ in range(8)]
        for process in started:
            process.start()
        outcomes = [results.get(timeout=60) for _ in started]
        for process in started:
            process.join()

        assert [(1, 1)] * 8 == outcomes
        assert [0] * 8 == [process.exitcode for process in started]


def test_a_fork_opens_its_own_connections(store, monkeypatch):
    """A forked process neither reads on the connections of its parent nor closes them."""
    store.open(create=True)
    assert 1 == store.position().revision
    pool = store.backend.reading.pool
    connected, closed = [], []
    connect = Opening.connect_for_revision

    def noted(opening):
        connected.append(os.getpid())
        return connect(opening)

    monkeypatch.setattr(Opening, "connect_for_revision", noted)
    with store.backend.reading.connect():  # now an idle connection is in the pool
        pass
    sa.event.listen(pool, "close", lambda *_: closed.append(os.getpid()))
    counter = store.settings.database_path.with_name("roster.db.writes")
    os.utime(counter, (2, 2))  # so that the child reads the database
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()

    def read():
        results.put((os.getpid(), store.position().revision, connected, closed))

    child = fork.Process(target=read)
    child.start()
    pid, *outcome = results.get(timeout=60)
    child.join()

    assert [1, [pid], []] == outcome
    assert 1 == store.position().revision
    assert [] == connected
