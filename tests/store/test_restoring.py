"""A backup replaces the database, or is refused."""

import dataclasses
import multiprocessing
import os
import random
import resource
import stat
from contextlib import nullcontext

import pytest
import sqlalchemy as sa

from app.administration import Administration
from app.catalog.catalog import Catalog
from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.catalog.sources import FailedRun, GoodRun, SourceState
from app.settings import Settings
from app.store.documents import write_key, write_model
from app.store.schema import HEAD, migrate
from app.store.sqlite import restoring
from app.store.sqlite.connection import create_engine, sqlite
from app.store.sqlite.locks import UseLock
from app.store.store import Store
from tests.sql import run_sql
from tests.writing import write

NOW = 1_800_000_000


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


@pytest.fixture
def backup(store, tmp_path):
    """A backup with the entry x, of a database that has y, too."""
    put(store, "x")
    store.backup(tmp_path / "backup.db")
    put(store, "y")
    return tmp_path / "backup.db"


def put(store, *ids, **fields):
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for model_id in ids:
            write(transaction, Model.compose({"id": model_id, **fields}, now=NOW))


def ids(store):
    return sorted(model.id for model in store.load().models)


def refusal(call):
    with pytest.raises(StoreRefused) as refused:
        call()
    return refused.value.reason


def files(store):
    return sorted(path.name for path in store.settings.instance_path.iterdir())


def change(path, *statements):
    connection = sqlite.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_backup_takes_the_place(store, settings, clock, backup):
    """What the backup holds is what there is; what was before is a whole database beside it."""
    path = settings.database_path
    path.chmod(0o600)
    content = backup.read_bytes()
    store.close()
    restored = store.restore(backup, actor=Actor("test"))

    assert (3, 1) == (restored.revision, restored.entries)
    assert "roster.db.before-restore-20270115T080000Z" == restored.previous.name
    assert ["x"] == ids(store)
    assert content == backup.read_bytes()
    assert [backup.name] == [path.name for path in backup.parent.glob("backup*")]
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    before = Store(
        Settings(
            instance_path=settings.instance_path, database_url=f"sqlite:///{restored.previous}"
        ),
        clock,
    )
    assert ["x", "y"] == ids(before)
    before.close()


def test_the_sources_are_those_of_the_backup(store, tmp_path):
    """A restore brings the runs of the backup, and none that were recorded since."""
    good = GoodRun(at=NOW, revision=3, added=1, kept=2)
    store.record_run("a", good, known_format="csv")
    store.backup(tmp_path / "sources.db")
    store.record_run("a", FailedRun(at=NOW, message="The file is no catalogue."))
    store.record_run("b", good)
    store.close()
    store.restore(tmp_path / "sources.db", actor=Actor("test"))

    assert [SourceState("a", "csv", good, None)] == store.sources()


def test_no_revision_is_given_twice(store, backup):
    """What is written after a restore has a revision that no state of an entry had before it."""
    put(store, "z")
    before = store.position().revision
    store.close()
    store.restore(backup, actor=Actor("test"))
    put(store, "y")

    assert {model.id: model.revision for model in store.load().models} == {"x": 2, "y": before + 1}


def test_the_log_of_a_killed_process_stays_with_the_replaced_database(
    store, settings, clock, backup
):
    """Writes in the write-ahead log alone are in the replaced database, and not in the new one."""

    def write_and_die():
        put(Store(settings, clock), "z")
        os._exit(9)

    store.close()
    process = multiprocessing.get_context("fork").Process(target=write_and_die)
    process.start()
    process.join()
    assert settings.database_path.with_name("roster.db-wal").stat().st_size > 0
    kept = store.restore(backup, actor=Actor("test")).previous

    assert ["x"] == ids(store)
    before = Store(Settings(database_url=f"sqlite:///{kept}"), clock)
    assert ["x", "y", "z"] == ids(before)
    before.close()


def test_a_second_restore_keeps_both(store, backup):
    """Two restores of one second keep what was before each."""
    store.close()
    kept = [store.restore(backup, actor=Actor("test")).previous.name for _ in range(2)]

    assert 2 == len(set(kept))
    assert set(kept) <= set(files(store))


def test_a_lost_database_is_restored(store, settings, backup):
    """Where there is no database, not even its folder, the backup makes one."""
    store.close()
    for path in settings.instance_path.iterdir():
        path.unlink()
    settings.instance_path.rmdir()
    restored = store.restore(backup, actor=Actor("test"))

    assert (2, 1, None) == (restored.revision, restored.entries, restored.previous)
    assert ["x"] == ids(store)


def test_a_damaged_database_is_replaced(store, settings, backup):
    """A start refuses a damaged file with the command that helps; the file stays as it is."""
    damage = b"this is no database, " * 500
    store.close()
    settings.database_path.write_bytes(damage)

    assert (
        f"The database {settings.database_path} is damaged (file is not a database): "
        "'flask db restore FILE' puts a backup in its place."
    ) == refusal(lambda: store.open(create=True))
    store.close()
    assert damage == store.restore(backup, actor=Actor("test")).previous.read_bytes()
    assert ["x"] == ids(store)


def test_a_start_looks_at_every_page(store, settings, clock):
    """A file whose damage the first pages do not show stops a server's start, and only that."""
    put(store, *(f"m{number}" for number in range(300)), description="x" * 300)
    store.close()
    content = bytearray(settings.database_path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096 * 4] = b"\xff" * 4096 * 4
    settings.database_path.write_bytes(content)

    assert "is damaged" in refusal(lambda: store.open(create=True))
    assert 301 == store.position().revision


def test_what_runs_is_never_replaced(store, settings, clock, backup):
    """While any process has the database open, restoring is refused and changes nothing."""
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def read_and_wait():
        reader = Store(settings, clock)
        reader.position()
        barrier.wait(60)
        barrier.wait(60)

    sentence = "Servers or commands have the database open: stop them, then try again."
    assert sentence == refusal(lambda: store.restore(backup, actor=Actor("test")))
    store.close()
    process = multiprocessing.get_context("fork").Process(target=read_and_wait)
    process.start()
    barrier.wait(60)
    assert sentence == refusal(lambda: store.restore(backup, actor=Actor("test")))
    barrier.wait(60)
    process.join()

    assert ["x", "y"] == ids(store)
    assert [] == [name for name in files(store) if "restor" in name]


def test_nobody_opens_what_is_being_restored(store, settings, clock, backup, monkeypatch):
    """A process waits for the end of a restore, and opens the database then."""
    store.close()
    monkeypatch.setattr("app.store.sqlite.locks.OPEN_TIMEOUT", 0.05)
    refused = []

    def restore(*args, **kwargs):
        with pytest.raises(StoreUnavailable) as unavailable:
            Store(settings, clock).position()
        refused.append(unavailable.value.reason)
        return restored(*args, **kwargs)

    restored = restoring.restore
    monkeypatch.setattr("app.store.sqlite.backend.restore", restore)
    store.restore(backup, actor=Actor("test"))

    assert ["Another process checks, copies or restores the database."] == refused
    assert 3 == store.position().revision


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DROP TABLE models", f"its table 'models' is missing: schema {HEAD} has it"),
        ("DROP TABLE alembic_version", "it has no schema"),
        ("DELETE FROM catalogue", "its catalogue is not one row"),
        ("UPDATE alembic_version SET version_num = 'abc'", "another program's"),
        (
            "UPDATE catalogue SET oldest_schema = 99;UPDATE alembic_version SET version_num = 99",
            f"schema 99, this program knows schemas up to {HEAD}",
        ),
    ],
)
def test_what_is_not_ours_is_refused(store, backup, statement, sentence):
    """A database of something else, or of a newer program, replaces nothing."""
    change(backup, *statement.split(";"))
    store.close()
    before = files(store)

    assert sentence in refusal(lambda: store.restore(backup, actor=Actor("test")))
    assert before == files(store)
    assert ["x", "y"] == ids(store)


@pytest.mark.parametrize("revision", [2**52 + 1, 2**53 - 1])
def test_a_revision_that_no_writes_reach_is_refused(store, backup, revision):
    """The sentence names the revision and the highest one that is taken."""
    change(backup, f"UPDATE catalogue SET revision = {revision}")  # noqa: S608
    store.close()

    assert (
        f"{backup} cannot be restored: its revision {revision} is above {2**52}, which no number "
        "of writes reaches: another program has set it."
    ) == refusal(lambda: store.restore(backup, actor=Actor("test")))


@pytest.mark.parametrize("before", [None, 2**53 + 5])
def test_the_highest_revision_goes_on(store, backup, tmp_path, before):
    """What a restored database writes has the next revision, and its backups are restored."""
    change(backup, f"UPDATE catalogue SET revision = {2**52}")  # noqa: S608
    store.close()
    if before:
        change(store.settings.database_path, f"UPDATE catalogue SET revision = {before}")  # noqa: S608
    store.restore(backup, actor=Actor("test"))
    put(store, "z")
    revision = store.position().revision
    store.backup(tmp_path / "second.db")
    store.close()

    assert (before or 2**52) + 1 == revision
    assert revision == store.restore(tmp_path / "second.db", actor=Actor("test")).revision


def test_a_full_disk_is_reported(store, settings, tmp_path):
    """What goes wrong with the new file is not blamed on the backup, and changes nothing."""
    put(store, *(f"m{number}" for number in range(300)), description="x" * 3000)
    store.backup(tmp_path / "backup.db")
    store.close()
    content = settings.database_path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(StoreUnavailable) as unavailable:
            store.restore(tmp_path / "backup.db", actor=Actor("test"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert (
        f"No database can be written in {settings.instance_path} (disk I/O error): nothing was "
        "changed."
    ) == unavailable.value.reason
    assert content == settings.database_path.read_bytes()
    assert [] == [name for name in files(store) if "restor" in name]


@pytest.mark.parametrize("number", range(1, HEAD + 1))
@pytest.mark.parametrize("quoted", ['"only"', "only"], ids=["", "of the first program"])
def test_earlier_backups_are_restored(store, settings, tmp_path, number, quoted):
    """A backup of each schema that ever was is restored, and has ours then."""
    backup = tmp_path / "backup.db"
    backup.touch()
    model = Model.compose({"id": "x"}, now=NOW)
    with create_engine(backup).begin() as connection:
        migrate(connection, number)
        document = write_model(model)
        connection.execute(sa.text("INSERT INTO models VALUES ('x', 1, :x)"), {"x": document})
        connection.execute(sa.text("UPDATE catalogue SET revision = 1"))
    change(
        backup,
        "PRAGMA writable_schema=ON",
        f"""UPDATE sqlite_master SET sql = replace(sql, '"only" =', '{quoted} =')""",  # noqa: S608
        "ANALYZE",
    )
    store.close()
    store.restore(backup, actor=Actor("test"))

    assert [model] == store.load().models
    assert HEAD == store.schema()
    assert [] == store.sources()


def test_the_aliases_of_a_backup_are_those_of_its_documents(store, settings, backup):
    """Rows of aliases are not taken from the file: some may be missing, and others made up."""
    put(store, "z", aliases=["a", "b"])
    file = backup.with_name("another.db")
    store.backup(file)
    change(file, "DELETE FROM aliases WHERE alias = 'a'", "INSERT INTO aliases VALUES ('c', 'z')")
    store.close()
    store.restore(file, actor=Actor("test"))

    found = run_sql(settings, "SELECT alias, model_id FROM aliases ORDER BY alias")
    assert [("a", "z"), ("b", "z")] == found


def test_a_backup_in_which_a_name_is_an_alias_twice_is_refused(store, settings, backup):
    """No program makes one; an alias that is an id is taken: a release without aliases adds it."""
    put(store, "w", aliases=["a"])
    put(store, "z", aliases=["b", "x"])
    file = backup.with_name("another.db")
    store.backup(file)
    store.close()
    aliases = "UPDATE models SET document = json_set(document, '$.aliases', json_array({})){}"

    for names, reason in (
        ("'b', 'a'", "Its alias 'a' is an alias of the model 'w' as well"),
        ("'b', 'z'", "Its own id is one of its aliases"),
    ):
        change(file, aliases.format(names, " WHERE id = 'z'"))
        refused = refusal(lambda: store.restore(file, actor=Actor("test")))
        assert f"{file} cannot be restored: in models, the row 'z' is wrong: {reason}." == refused
    change(file, aliases.format("'b', 'x'", " WHERE id = 'z'"))
    store.restore(file, actor=Actor("test"))
    assert ["w", "x", "y", "z"] == ids(store)


def test_every_field_is_restored(store, administration, tmp_path):
    """What administrators may store is what may be restored, each field at its widest."""
    text = "é" * 256
    fields = {
        **dict.fromkeys(("owned_by", "root", "parent", "name"), text),
        **{f.name: "" for f in dataclasses.fields(Model) if "work_" in f.name},
        "description": "x" * 4096,
        "created": 2**32 - 1,
        "available_from": 0,
        "permission": [{}, {"organization": text, "group": text, "is_blocking": True}] * 50,
        "aliases": [f"{number:x<256}" for number in range(16)],
        "list_aliases": True,
        "type": "transcription",
        "tags": [text] * 100,
        "context_length": 2**53 - 1,
        "max_input_tokens": 2**53 - 1,
        "max_output_tokens": 1,
        "architecture": {"input_modalities": [text] * 100, "output_modalities": []},
        "supported_parameters": [text] * 100,
        "supported_endpoint_types": [text] * 100,
        "reasoning": {
            "supported_efforts": [text] * 100,
            "default_effort": text,
            "mandatory": True,
        },
        "knowledge_cutoff": "2025",
        "pricing": {f"{number}{'x' * 62}": f"{'1' * 20}.{'0' * 20}" for number in range(10, 100)},
        "shutdown_date": "2028-02-29",
        "deprecation": "2027-01-31t23:59:59.123456789-12:30",
        "deprecation_replacement_model": "y" * 256,
        "metadata": {str(number): text for number in range(16)},
        "web_work_status": -1.5,
        "create_time": 5,
    }
    names = {f.name for f in dataclasses.fields(Model) if f.compare and f.init}
    assert {"id", "source", *fields} == names
    fields_of_x = {"id": "x" * 256, **fields}
    made = administration.create_model(fields_of_x, actor=Actor("test")).model
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        model = write(transaction, dataclasses.replace(made, source="s" * 64), made)
    store.backup(tmp_path / "backup.db")
    store.close()
    store.restore(tmp_path / "backup.db", actor=Actor("test"))

    assert [model] == store.load().models


def test_texts_that_earlier_programs_took_are_restored(store, tmp_path):
    """A name with an override of bidirectional text comes back, and no id may have one."""
    old = Model.compose({"id": "a", "name": "A\u202eB", "owned_by": "\u2028"}, now=0)
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        write(transaction, old)
    store.backup(tmp_path / "good.db")
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        write(transaction, dataclasses.replace(old, id="b\u202e"))
    store.backup(tmp_path / "bad.db")
    store.close()

    assert 1 == store.restore(tmp_path / "good.db", actor=Actor("test")).entries
    assert "printable ASCII" in refusal(
        lambda: store.restore(tmp_path / "bad.db", actor=Actor("test"))
    )


@pytest.mark.slow
def test_random_damage_is_refused_or_harmless(store, backup):
    """Of a backup with damage anywhere, all is restored or nothing is."""
    content = backup.read_bytes()
    chance = random.Random(3)
    store.close()
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(content)
        place = chance.randrange(len(content) - 64)
        damaged[place : place + 64] = chance.randbytes(64)
        backup.write_bytes(damaged)
        try:
            outcomes.add(store.restore(backup, actor=Actor("test")).entries)
        except StoreRefused:
            outcomes.add("refused")

    assert {1, "refused"} == outcomes


@pytest.fixture
def administration(store, clock):
    return Administration(store, clock)


@pytest.fixture
def kids(administration, store, tmp_path, clock):
    """Keys by name, all active in the backup; what became of them since is in their names."""
    names = ("active", "revoked", "rotated", "ended")
    made = {
        name: administration.create_key({"name": name}, actor=Actor("test"))[0] for name in names
    }
    store.backup(tmp_path / "backup.db")
    clock.now += 60
    administration.revoke_key(made["revoked"].kid, actor=Actor("test"))
    administration.rotate_key(made["rotated"].kid, {"grace": 600}, actor=Actor("test"))
    administration.rotate_key(made["ended"].kid, {"grace": 0}, actor=Actor("test"))
    made["new"], _ = administration.create_key({"name": "new"}, actor=Actor("test"))
    return {name: key.kid for name, key in made.items()}


def stored_keys(store):
    return {key.kid: key for key in store.load().keys}


def named(keys):
    return sorted(key.name for key in keys)


def test_revoked_keys_stay_revoked(store, tmp_path, kids, clock):
    """Keys that were revoked or rotated since the backup end when they ended, and are named."""
    before = stored_keys(store)
    store.close()
    clock.now += 60
    keys = store.restore(tmp_path / "backup.db", actor=Actor("cli:ann")).keys
    after = stored_keys(store)

    assert ["revoked"] == named(keys.revoked)
    assert ["ended", "rotated"] == named(keys.rotated)
    assert ["ended", "new", "rotated"] == named(keys.gone)
    assert ([], [], None) == (list(keys.revived), keys.added, keys.problem)
    assert after == {kid: before[kid] for kid in after}
    assert kids["new"] not in after
    assert NOW + 60 == after[kids["revoked"]].revoked_at
    assert ["active", "revoked", "grace", "expired"] == [
        after[kids[name]].state(clock.now) for name in ("active", "revoked", "rotated", "ended")
    ]


def test_each_key_that_ends_again_has_a_line_in_the_log(store, tmp_path, kids):
    """The log says who restored, and what that did to which key."""
    last = store.position().revision
    store.close()
    restored = store.restore(tmp_path / "backup.db", actor=Actor("cli:ann"))
    with store.backend.reading.connect() as connection:
        lines = connection.execute(
            sa.text("SELECT revision, actor, action, kid FROM changes WHERE revision > :last"),
            {"last": last},
        ).all()

    assert {
        ("cli:ann", "key.revoke", kids["revoked"]),
        ("cli:ann", "key.rotate", kids["rotated"]),
        ("cli:ann", "key.rotate", kids["ended"]),
    } == {tuple(line[1:]) for line in lines}
    assert [last + 1, last + 2, last + 3] == sorted(line.revision for line in lines)
    assert last + 3 == restored.revision == store.position().revision


@pytest.fixture
def edit(administration, store, tmp_path):
    """Make a key that a backup has with one expiry, and that has another one since."""

    def make(name, before, after):
        fields = {"name": name, "expires_at": before}
        made, _ = administration.create_key(fields, actor=Actor("test"))
        (tmp_path / "backup.db").unlink(missing_ok=True)
        store.backup(tmp_path / "backup.db")
        patch = {"name": "edited", "groups": ["a"], "expires_at": after}
        administration.merge_key(made.kid, patch, actor=Actor("test"))
        return made.kid

    return make


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (None, NOW + 60, NOW + 60),
        (NOW + 90, NOW + 60, NOW + 60),
        (NOW + 60, NOW + 90, NOW + 60),
        (NOW + 60, None, NOW + 60),
        (None, None, None),
    ],
)
def test_no_key_lives_longer_after_a_restore(store, edit, tmp_path, log, *, before, after, kept):
    """An edited key is as the backup has it, and is named; of both expiries the earlier counts."""
    kid = edit("made", before, after)
    last = store.position().revision
    store.close()
    keys = store.restore(tmp_path / "backup.db", actor=Actor("cli:ann")).keys
    key = stored_keys(store)[kid]
    lines = [(line.actor, line.action, line.kid) for line in log() if line.revision > last]

    assert ("made", (), kept) == (key.name, key.groups, key.expires_at)
    assert [kid] == [key.kid for key in keys.changed]
    assert ([], [], []) == (list(keys.revoked), list(keys.rotated), list(keys.revived))
    assert ([] if kept == before else [("cli:ann", "key.update", kid)]) == lines


def test_an_expiry_is_revived_on_demand(store, edit, tmp_path):
    """With `revive_keys` the expiry is that of the backup, too."""
    kid = edit("made", NOW + 90, NOW + 60)
    store.close()
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test"), revive_keys=True).keys

    assert ["made"] == named(keys.revived)
    assert NOW + 90 == stored_keys(store)[kid].expires_at


def test_keys_are_revived_on_demand(store, tmp_path, kids):
    """With `revive_keys` the keys are those of the backup, and those that changed are named."""
    store.close()
    keys = store.restore(tmp_path / "backup.db", actor=Actor("cli:ann"), revive_keys=True).keys

    assert ["ended", "revoked", "rotated"] == named(keys.revived)
    assert ([], []) == (list(keys.revoked), list(keys.rotated))
    assert {"active"} == {key.state(NOW) for key in store.load().keys}


def test_keys_that_only_the_backup_has_are_named(store, tmp_path, kids):
    """Whoever could write the file could add a key of theirs, or exchange one: it is named."""
    secret = mint()
    own = describe(secret, name="own", created=NOW, scopes=("admin",))
    change(
        tmp_path / "backup.db",
        f"INSERT INTO keys VALUES ('{own.kid}', '{own.digest}', '{write_key(own)}')",  # noqa: S608
        f"UPDATE keys SET digest = '{'0' * 64}' WHERE kid = '{kids['active']}'",  # noqa: S608
    )
    store.close()

    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert (["own"], ["active"]) == (named(keys.added), named(keys.changed))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("scopes", '["read", "admin"]'),
        ("organization", '"acme"'),
        ("groups", '["staff"]'),
        ("expires_at", "4000000000"),
        ("name", '"active, too"'),
        ("limits", "5"),
    ],
)
def test_keys_that_differ_from_those_before_are_named(store, tmp_path, kids, member, value):
    """Whoever could write the file could widen a key, or somebody has edited it since."""
    change(
        tmp_path / "backup.db",
        f"""UPDATE keys SET document = json_set(document, '$.{member}', json('{value}'))
        WHERE kid = '{kids["active"]}'""",  # noqa: S608
    )
    store.close()
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert ([kids["active"]], []) == ([key.kid for key in keys.changed], list(keys.added))
    assert (["revoked"], ["ended", "rotated"]) == (named(keys.revoked), named(keys.rotated))


def test_where_no_key_was_before_each_is_named(store, tmp_path, kids):
    """A database without keys is known as well: all keys are new to it."""
    store.close()
    change(store.settings.database_path, "DELETE FROM keys")

    assert kids.keys() - {"new"} <= set(
        named(store.restore(tmp_path / "backup.db", actor=Actor("test")).keys.added)
    )


def test_an_earlier_revocation_is_not_lost(store, tmp_path, kids):
    """A key that the backup has as revoked stays so, whatever the database before says."""
    store.backup(tmp_path / "later.db")
    store.close()
    store.restore(tmp_path / "backup.db", actor=Actor("test"), revive_keys=True)
    store.close()
    keys = store.restore(tmp_path / "later.db", actor=Actor("test")).keys

    assert ([], []) == (list(keys.revoked), list(keys.rotated))
    assert NOW + 60 == stored_keys(store)[kids["revoked"]].revoked_at


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DROP TABLE keys", "the database before has no table of keys"),
        (
            """DROP TABLE keys;CREATE VIEW keys AS
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT max(i) AS kid, 1 AS digest, 1 AS document FROM n""",
            "the database before has no table of keys",
        ),
        (
            """ALTER TABLE keys DROP COLUMN document;
            ALTER TABLE keys ADD COLUMN document AS (hex(zeroblob(100)))""",
            "the database before has no table of keys",
        ),
    ],
)
@pytest.mark.usefixtures("kids")
def test_a_restore_says_which_keys_it_could_not_look_up(
    store, tmp_path, monkeypatch, statement, problem
):
    """A manipulated database is replaced, with the reason why its keys are unknown."""
    monkeypatch.setattr("app.store.sqlite.backup._PATIENCE", 0.1)
    store.close()
    change(store.settings.database_path, *statement.split(";"))
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert (problem, []) == (keys.problem, list(keys.revoked))
    assert 5 == len(store.load().keys)


#: What a key's row in the database before may hold, and the end that it has then.
MALFORMED = {
    "another digest": ("digest = 'x'", NOW + 60),
    "a scope of its own": ("document = json_set(document, '$.scopes', 'x')", NOW + 60),
    "a word for its end": ("document = json_set(document, '$.revoked_at', 'x')", NOW + 90),
    "an end beyond time": ("document = json_set(document, '$.revoked_at', 1e300)", NOW + 90),
    "a document twice": ("document = document || document", NOW + 90),
    "no object": ("document = '[]'", NOW + 90),
    "100,000 levels": (f"document = '{'[' * 100_000}'", NOW + 90),
    "bytes": ("document = x'ff'", NOW + 90),
    "a number": ("document = 5", NOW + 90),
    "a name that is no UTF-8": (
        "document = CAST(CAST(replace(document, '\"revoked\"', '\"@\"') AS BLOB) AS TEXT)",
        NOW + 60,
    ),
}


@pytest.mark.parametrize(("values", "end"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_key_stays_revoked(store, kids, clock, values, end):
    """Nothing else of a row than its end is needed; where that is unknown it is now."""
    path = store.settings.database_path
    backup = path.parent.parent / "backup.db"
    store.close()
    change(path, f"UPDATE keys SET {values} WHERE kid = '{kids['revoked']}'")  # noqa: S608
    path.write_bytes(path.read_bytes().replace(b'"name":"@"', b'"name":"\xff"'))
    clock.now += 30
    keys = store.restore(backup, actor=Actor("test")).keys

    changed = [key.kid for key in keys.changed]
    assert (["revoked"], [kids["revoked"]], None) == (named(keys.revoked), changed, keys.problem)
    assert end == stored_keys(store)[kids["revoked"]].revoked_at


@pytest.mark.parametrize(
    "view",
    [
        "",
        """CREATE VIEW catalogue AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT max(i) AS revision FROM n""",
    ],
    ids=["missing", "an endless view"],
)
def test_the_revision_is_not_needed_for_the_keys(store, tmp_path, kids, monkeypatch, view):
    """Where the database before lost its revision, or hides it, its keys stay revoked."""
    monkeypatch.setattr("app.store.sqlite.backup._PATIENCE", 0.1)
    store.close()
    change(store.settings.database_path, "DROP TABLE catalogue", view)
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert (["revoked"], None) == (named(keys.revoked), keys.problem)


def test_keys_before_a_damaged_page_stay_revoked(store, tmp_path):
    """What was read before the damage counts, and the warning says that there may be more."""
    made = [describe(mint(), name="x" * 250, created=NOW) for _ in range(100)]
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for key in made:
            transaction.put_key(key, None, "key.create")
    store.backup(tmp_path / "backup.db")
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for key in made:
            transaction.put_key(dataclasses.replace(key, revoked_at=NOW), key, "key.revoke")
    store.close()
    path = store.settings.database_path
    content = bytearray(path.read_bytes())
    row = (made[-1].kid + made[-1].digest).encode()
    for page in range(0, len(content), 4096):
        if row in content[page : page + 4096]:
            content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert "malformed" in keys.problem
    assert 50 < len(keys.revoked) < 100


def test_a_malformed_key_stays_rotated(store, tmp_path, kids):
    """Of a rotated key the end of its grace is all that is needed."""
    store.close()
    change(
        store.settings.database_path,
        "UPDATE keys SET document = json_set(document, '$.scopes', 'x')",
    )
    store.restore(tmp_path / "backup.db", actor=Actor("test"))

    assert NOW + 660 == stored_keys(store)[kids["rotated"]].retires_at


@pytest.mark.slow
def test_a_slow_disk_revives_no_key(store, tmp_path, monkeypatch):
    """However long the keys before take to be read, those that were revoked stay so."""
    made = [describe(mint(), name="x", created=NOW) for _ in range(3000)]
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for key in made:
            transaction.put_key(key, None, "key.create")
    store.backup(tmp_path / "backup.db")
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for key in made:
            transaction.put_key(dataclasses.replace(key, revoked_at=NOW), key, "key.revoke")
    store.close()
    monkeypatch.setattr("app.store.sqlite.backup._PATIENCE", 0)
    keys = store.restore(tmp_path / "backup.db", actor=Actor("test")).keys

    assert (3000, None) == (len(keys.revoked), keys.problem)


@pytest.mark.usefixtures("kids")
def test_a_lost_database_takes_its_revocations_along(store, settings, tmp_path):
    """Without a database, the result says that revocations since the backup are unknown."""
    store.close()
    settings.database_path.unlink()

    assert (
        "there was no database"
        == store.restore(tmp_path / "backup.db", actor=Actor("test")).keys.problem
    )


def test_a_file_in_use_is_no_backup(store, settings, backup, tmp_path):
    """A file with a write-ahead log beside it is refused: a copy of it would lack the log."""
    (tmp_path / "backup.db-wal").write_bytes(b"")
    store.close()

    assert "is in use, or was when its process was killed" in refusal(
        lambda: store.restore(backup, actor=Actor("test"))
    )


def test_a_backup_written_past_a_worker_is_loaded(store, backup, clock, monkeypatch):
    """A worker that slept through a restore takes what was written after it for what it is."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    catalog = Catalog(store, clock)
    assert ["x", "y"] == [model.id for model in catalog.current().models]
    monkeypatch.setattr(UseLock, "exclusive", lambda _: nullcontext())
    store.restore(backup, actor=Actor("test"))
    put(store, "z")

    assert 4 == catalog.current().revision
    assert ["x", "z"] == [model.id for model in catalog.current().models]
