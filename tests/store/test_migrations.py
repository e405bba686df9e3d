"""How a database gets a newer schema, and which programs may use it then."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.catalog.catalog import Catalog
from app.catalog.errors import StoreRefused
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store import schema
from app.store.documents import write_key, write_model
from app.store.schema import HEAD
from app.store.store import Store
from app.store.tables import metadata
from app.store.transaction import write_connection
from tests.sql import run_sql
from tests.writing import write

BOTH = pytest.mark.databases("sqlite", "postgresql")
NOW = 1_800_000_000
ENTRY = Model.compose({"id": "x", "owned_by": "acme"}, now=NOW)


def alembic(connection=None):
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


@pytest.fixture
def database(request, database):
    """A database without tables."""
    if database is None:
        return None
    cluster = request.getfixturevalue("cluster")
    return cluster.url(cluster.create())


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    yield store
    store.close()


@pytest.fixture
def old(store):
    """A store whose database is of schema 1, with an entry, a key and a log of two changes."""
    store.settings.instance_path.mkdir()
    store.backend.prepare(None)
    secret = mint()
    key = describe(secret, name="n", created=NOW, scopes=("admin",))
    documents = {"entry": write_model(ENTRY), "key": write_key(key)}
    with write_connection(store.backend, float("inf")) as sql:
        command.upgrade(alembic(sql), "0001")
        for statement in (
            "INSERT INTO keys VALUES (:kid, :digest, :key)",
            "INSERT INTO models VALUES ('x', 2, :entry)",
            "INSERT INTO changes VALUES (1, 0, 'a', 'key.create', NULL, :kid, NULL, :key)",
            "INSERT INTO changes VALUES (2, 0, 'a', 'model.create', 'x', NULL, NULL, :entry)",
            "UPDATE catalogue SET revision = 2",
        ):
            sql.execute(sa.text(statement), {"kid": key.kid, "digest": key.digest, **documents})
    store.close()
    return store


def row(store):
    with store.backend.reading.connect() as connection:
        return connection.execute(sa.text("SELECT * FROM catalogue")).one()


def execute(store, statement, **values):
    with store.backend.writing.begin() as connection:
        connection.execute(sa.text(statement), values)


def stamp(store, number):
    execute(store, "UPDATE alembic_version SET version_num = :version", version=f"{number:04}")


def put(store, model_id):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        return write(transaction, Model.compose({"id": model_id}, now=NOW))


@BOTH
def test_migrations_make_the_tables(store):
    """The migrated schema is the one that the tables declare."""
    store.open(create=True)
    with store.backend.reading.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert [] == compare_metadata(context, metadata)


def test_head_is_the_newest_migration():
    """The constant that spares us the import of Alembic names its newest revision."""
    assert [f"{HEAD:04}"] == ScriptDirectory.from_config(alembic()).get_heads()


def test_every_migration_names_the_oldest_program():
    """Each says which programs may go on beside it, in order and none ahead of itself."""
    scripts = list(ScriptDirectory.from_config(alembic()).walk_revisions())[::-1]

    assert [f"{n:04}" for n in range(1, HEAD + 1)] == [script.revision for script in scripts]
    assert all(1 <= s.module.oldest_schema <= int(s.revision) for s in scripts)


@BOTH
def test_an_older_database_keeps_what_it_has(old):
    """Schema 1 becomes ours with entries, keys and log as they were, under a mark of its own."""
    loaded = old.load()

    assert (2, [ENTRY], ["n"]) == (loaded.revision, loaded.models, [k.name for k in loaded.keys])
    assert [2] == [model.revision for model in loaded.models]
    assert HEAD == old.schema()
    assert (16, f"{HEAD}-{row(old).mark}") == (len(row(old).mark), row(old).lineage)
    assert 1 == row(old).oldest_schema
    before = old.position()
    assert 3 == put(old, "y").revision
    assert None is old.changes_since(before)  # no line of the log made this state
    after = old.position()
    assert 4 == put(old, "z").revision
    assert ["z"] == list(old.changes_since(after).models)


@BOTH
def test_an_upgrade_finds_the_aliases(old, settings):
    """An older program keeps aliases in documents; of two entries with one, the first has it."""
    # pg_restore leaves the table in which a newer schema was.
    execute(old, "CREATE TABLE aliases (another TEXT)")
    for model_id, aliases in (("z", ["a", "b"]), ("y", ["b"]), ("w", None)):
        model = Model.compose({"id": model_id, "aliases": aliases}, now=NOW)
        row = {"id": model_id, "document": write_model(model)}
        execute(old, "INSERT INTO models VALUES (:id, 2, :document)", **row)
    old.open()

    found = run_sql(settings, "SELECT alias, model_id FROM aliases ORDER BY alias")
    assert [("a", "z"), ("b", "y")] == [tuple(row) for row in found]


@BOTH
def test_an_upgrade_replaces_a_left_table_of_sources(old):
    """pg_restore leaves the table of a newer schema beside a backup that has none."""
    execute(old, "CREATE TABLE sources (another TEXT)")
    old.open()

    assert [] == old.sources()


def test_an_upgrade_keeps_a_copy(old, settings, clock):
    """Before a file is upgraded it is copied to one beside it, and no copy is replaced."""
    before = settings.database_path.with_name("roster.db.schema-1")
    before.write_text("an earlier one")
    old.open()
    copy = Store(
        Settings(instance_path=settings.instance_path, database_url=f"sqlite:///{before}.1"), clock
    )

    assert "an earlier one" == before.read_text()
    assert (1, HEAD) == (copy.schema(), old.schema())
    assert [ENTRY] == copy.load().models
    copy.close()


def open_old(settings, barrier, results):
    store = Store(settings, lambda: NOW)
    barrier.wait()
    store.open()
    results.put((store.position(), len(store.load().models)))


@BOTH
def test_eight_starts_upgrade_once(old, settings):
    """Eight processes that meet an older database at once upgrade it once."""
    spawn = multiprocessing.get_context("fork")
    barrier, results = spawn.Barrier(8), spawn.Queue()
    started = [spawn.Process(target=open_old, args=(settings, barrier, results)) for _ in range(8)]
    for process in started:
        process.start()
    outcomes = {results.get(timeout=60) for _ in started}
    for process in started:
        process.join()

    assert {(old.position(), 1)} == outcomes
    copies = 1 if settings.database_path else 0
    assert copies == len(list(settings.instance_path.glob("roster.db.schema-*")))


def die_between(settings):
    add = op.add_column
    done = []

    def add_and_die(*args):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        add(*args)
        done.append(args)

    op.add_column = add_and_die
    Store(settings, lambda: NOW).open()


@BOTH
def test_a_kill_in_the_middle_leaves_the_older_schema(old, settings):
    """An upgrade that is killed half-way leaves nothing, and the next one goes through."""
    process = multiprocessing.get_context("fork").Process(target=die_between, args=(settings,))
    process.start()
    process.join()

    assert -signal.SIGKILL == process.exitcode
    assert 1 == old.schema()
    assert [ENTRY] == old.load().models
    assert HEAD == old.schema()


@BOTH
def test_a_program_goes_on_beside_a_newer_one(store, settings, clock, caplog):
    """Where the newer schema lets this program in, it serves and writes, with one warning."""
    store.open(create=True)
    stamp(store, HEAD + 1)
    beside = Store(settings, clock)

    assert 2 == put(beside, "x").revision
    assert ["x"] == [model.id for model in beside.load().models]
    sentence = f"The database has schema {HEAD + 1}, this program has {HEAD}: "
    assert [f"{sentence}it goes on beside the newer program."] == [
        record.getMessage() for record in caplog.records
    ]
    beside.close()


@BOTH
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalogue SET oldest_schema = :newer",
        "ALTER TABLE catalogue RENAME COLUMN oldest_schema TO oldest_program",
        "ALTER TABLE catalogue RENAME TO catalogues",
    ],
)
def test_a_newer_schema_is_refused_with_both_numbers(store, settings, clock, statement):
    """Where it does not, or cannot be asked, the sentence names both schemas."""
    store.open(create=True)
    stamp(store, HEAD + 1)
    execute(store, statement, **({"newer": HEAD + 1} if ":newer" in statement else {}))
    later = Store(settings, clock)

    for create in (True, False):
        with pytest.raises(StoreRefused) as refused:
            later.open(create=create)
        assert f"schema {HEAD + 1}, " in refused.value.reason
        assert f"up to {HEAD}:" in refused.value.reason
    assert HEAD + 1 == store.schema()
    later.close()


@BOTH
def test_a_running_program_is_shut_out(store, clock, monkeypatch):
    """A program that a newer one shuts out serves its last snapshot, and writes nothing."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)  # a migration is a counted write
    store.open(create=True)
    catalog = Catalog(store, clock)
    put(store, "x")
    assert 1 == len(catalog.current().models)
    execute(store, "UPDATE catalogue SET oldest_schema = :newer, mark = 'x'", newer=HEAD + 1)

    assert 1 == len(catalog.current().models)
    assert f"schema {HEAD + 1}" in catalog.outage
    with pytest.raises(StoreRefused):
        put(store, "y")
    assert 2 == store.position().revision
