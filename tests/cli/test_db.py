"""``flask db``: the database itself, from the terminal."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from app import create_app
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.fields import UNWANTED
from app.settings import Settings
from app.store.schema import HEAD
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from tests.writing import write

OLDER = "Error: The schema is older than this program: 'flask db upgrade' brings it up."
NEWER = f"Error: The database has schema 99, this program knows schemas up to {HEAD}: "


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args: runner.invoke(args=args)


@pytest.fixture
def unopened_run(unopened_app: Flask) -> Callable[..., Result]:
    """Run ``flask`` with these arguments where there is no database yet."""
    runner = unopened_app.test_cli_runner()
    return lambda *args: runner.invoke(args=args)


@pytest.fixture
def store(unopened_app: Flask) -> Store:
    """The store of the application, whether or not its database exists."""
    return unopened_app.extensions["roster"].store


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    """Open the database at `path` by a program of its own."""
    settings = Settings(instance_path=path.parent, database_url=f"sqlite:///{path}")
    store = create_app(settings).extensions["roster"].store
    try:
        yield store
    finally:
        store.close()


def test_upgrade(unopened_run: Callable[..., Result], store: Store, settings: Settings) -> None:
    """An upgrade makes the database, and a second one finds nothing to do."""
    assert not settings.database_path.exists()

    first = unopened_run("db", "upgrade")
    made = settings.database_path.read_bytes()
    second = unopened_run("db", "upgrade")

    sentence = f"{store.name} was made without entries and has schema {HEAD}.\n"
    assert (0, sentence) == (first.exit_code, first.stdout)
    assert (0, f"{store.name} has schema {HEAD}.\n") == (second.exit_code, second.stdout)
    assert made == settings.database_path.read_bytes()


def test_short_path(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path below the current folder is shown relative."""
    monkeypatch.chdir(tmp_path)

    assert f"instance/roster.db has schema {HEAD}.\n" == run("db", "upgrade").stdout


@pytest.mark.databases("sqlite", "postgresql")
def test_status(run: Callable[..., Result], store: Store) -> None:
    """The status says where the database is and what is in it."""
    run("models", "add", "x")

    facts = json.loads(run("db", "status", "--json").stdout)
    table = run("db", "status")

    assert {
        "database": store.name,
        "schema": HEAD,
        "newest_schema": HEAD,
        "revision": 2,
        "entries": 1,
        "keys": 1,
        "changes": 2,
        "problem": None,
    } == facts
    assert (0, ["FACT", "VALUE"]) == (table.exit_code, table.stdout.split()[:2])
    assert {name: str(value) for name, value in facts.items() if name != "problem"} == dict(
        line.split(None, 1) for line in table.stdout.splitlines()[1:]
    )


@pytest.mark.databases("sqlite", "postgresql")
def test_status_reads_no_entry(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status counts, however large the catalogue is."""
    run("models", "add", "x")
    read: list[str] = []
    monkeypatch.setattr("app.store.store.read_model", lambda document, _: read.append(document))

    done = run("db", "status", "--json")

    assert (0, 1) == (done.exit_code, json.loads(done.stdout)["entries"])
    assert [] == read


def test_status_without_database(unopened_run: Callable[..., Result], settings: Settings) -> None:
    """Where there is no database, status says how to make one, and makes none."""
    done = unopened_run("db", "status", "--json")

    assert 1 == done.exit_code
    assert "Error: There is no database yet: 'flask db upgrade' makes it.\n" == done.stderr
    assert json.loads(done.stdout)["schema"] is None
    assert not settings.database_path.exists()


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE catalogue SET oldest_schema = 99", NEWER),
        ("UPDATE alembic_version SET version_num = '0001'", OLDER),
        ("UPDATE alembic_version SET version_num = 'ae1027a6acf'", "Error: "),
        ("DROP TABLE alembic_version", "Error: There is no database yet"),
        ("DROP TABLE models", "Error: no such table: models"),
    ],
)
def test_status_of_unusable(
    run: Callable[..., Result],
    store: Store,
    statement: str,
    sentence: str,
    sql: Callable[..., list[Any]],
) -> None:
    """A database that cannot serve as it is has the exit code 1 and a sentence why."""
    sql(statement)

    done = run("db", "status")

    assert sentence in done.stderr
    assert 1 == done.exit_code
    assert store.name in done.stdout


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("0099", NEWER),
        ("ae1027a6acf", "Error: "),
    ],
)
def test_upgrade_of_unknown(
    run: Callable[..., Result],
    store: Store,
    version: str,
    sentence: str,
    sql: Callable[..., list[Any]],
) -> None:
    """A schema that is not ours, or newer, is refused in a sentence and stays as it is."""
    sql("UPDATE alembic_version SET version_num = :version", version=version)
    sql("UPDATE catalogue SET oldest_schema = 99")
    store.close()

    done = run("db", "upgrade")

    assert sentence in done.stderr
    assert (1, "") == (done.exit_code, done.stdout)
    assert [(version,)] == sql("SELECT version_num FROM alembic_version")


def test_status_of_a_name_that_colours(
    run: Callable[..., Result], sql: Callable[..., list[Any]]
) -> None:
    """What SQLite repeats of a database in its reasons cannot change the terminal."""
    sql("DROP TABLE models")
    sql('CREATE VIEW models AS SELECT 1 AS id FROM "\x1b[31m\u202e"')

    done = run("db", "status")

    assert done.stderr.endswith("no such table: main.\ufffd[31m\ufffd\n")
    assert 1 == done.exit_code


@pytest.mark.parametrize("command", [["status"], ["upgrade"], ["backup", "copy.db"]])
def test_corrupt(
    unopened_run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    settings: Settings,
) -> None:
    """A file that is no database is told in a sentence and stays as it is."""
    monkeypatch.chdir(tmp_path)
    settings.database_path.parent.mkdir()
    settings.database_path.write_bytes(b"no database at all" * 100)

    done = unopened_run("db", *command)

    assert 1 == done.exit_code
    assert "file is not a database" in done.stderr
    assert b"no database at all" * 100 == settings.database_path.read_bytes()
    assert [settings.database_path.parent] == list(tmp_path.iterdir())


def test_backup(run: Callable[..., Result], store: Store, tmp_path: Path) -> None:
    """A backup is a whole database of its own, with everything that was committed."""
    run("models", "add", "x", "name=X")
    run("keys", "create", "billing")
    copy = tmp_path / "copy" / "copy.db"
    copy.parent.mkdir()

    done = run("db", "backup", str(copy))
    run("models", "add", "later")

    assert (0, f"Wrote {copy}, {copy.stat().st_size} bytes.\n") == (done.exit_code, done.stdout)
    assert [copy] == list(copy.parent.iterdir())
    with opened(copy) as restored:
        catalog = restored.load()
    assert ["X"] == [model.name for model in catalog.models]
    assert set(catalog.keys) == set(store.load().keys)
    assert 3 == catalog.revision


def test_backup_during_write(run: Callable[..., Result], store: Store, tmp_path: Path) -> None:
    """A backup neither waits for a write nor has half of it."""
    copy = tmp_path / "copy.db"
    run("models", "add", "x")

    with store.transaction(actor=Actor("test"), now=0) as transaction:
        write(transaction, Model.compose({"id": "y"}, now=0))
        done = run("db", "backup", str(copy))

    assert 0 == done.exit_code
    connection = sqlite.connect(copy)
    try:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        assert [("x",)] == connection.execute("SELECT id FROM models").fetchall()
    finally:
        connection.close()
    assert ["x", "y"] == sorted(model.id for model in store.load().models)


def test_backup_onto_file(run: Callable[..., Result], tmp_path: Path) -> None:
    """A backup onto a file that exists is refused, and leaves the file and the folder."""
    copy = tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    copy.write_text("precious")

    done = run("db", "backup", str(copy))

    assert done.stderr.startswith(f"Error: {copy} exists already")
    assert str(copy) in done.stderr
    assert (1, "") == (done.exit_code, done.stdout)
    assert "precious" == copy.read_text()
    assert [copy] == list(copy.parent.iterdir())


def test_restore(
    run: Callable[..., Result], store: Store, tmp_path: Path, settings: Settings
) -> None:
    """A restore says what there is now, and where that is which was before."""
    run("models", "add", "x")
    copy = tmp_path / "copy.db"
    run("db", "backup", str(copy))
    run("models", "add", "y")
    store.close()

    done = run("db", "restore", str(copy))
    store.close()
    again = run("db", "restore", str(copy), "--json")

    kept = settings.instance_path / "roster.db.before-restore-20270115T080000Z"
    assert (
        f"Restored {store.name} from {copy}: revision 3, 1 entries.\n"
        f"What was there before is {kept}.\n"
    ) == done.stdout
    assert {
        "database": store.name,
        "revision": 3,
        "entries": 1,
        "previous": f"{kept}.1",
        "keys": {
            "revoked": [],
            "rotated": [],
            "revived": [],
            "gone": [],
            "added": [],
            "changed": [],
            "problem": None,
        },
    } == json.loads(again.stdout)
    assert "" == done.stderr + again.stderr
    assert ["x"] == [model.id for model in store.load().models]


def test_restore_of_keys(run: Callable[..., Result], store: Store, tmp_path: Path) -> None:
    """A restore names the keys that stay revoked, that work again, and that are gone."""
    copy = str(tmp_path / "copy.db")
    run("keys", "create", "billing")
    run("db", "backup", copy)
    run("keys", "create", "search")
    kids = {key.name: key.kid for key in store.load().keys}
    run("keys", "revoke", kids["billing"])
    store.close()

    done = run("db", "restore", copy)
    again = store.load().keys
    store.close()
    revived = run("db", "restore", copy, "--revive-keys", "--json")

    assert [
        f"Revoked since the backup, and still revoked: {kids['billing']} (billing).",
        f"Made since the backup, and gone: {kids['search']} (search).",
    ] == done.stdout.splitlines()[-2:]
    assert {"billing"} == {key.name for key in again if key.revoked_at is not None}
    assert [kids["billing"]] == json.loads(revived.stdout)["keys"]["revived"]
    assert {None} == {key.revoked_at for key in store.load().keys}


def test_restore_without_keys_before(
    unopened_run: Callable[..., Result], store: Store, tmp_path: Path
) -> None:
    """Where revocations since the backup cannot be looked up, a restore warns of it."""
    copy = str(tmp_path / "copy.db")
    with opened(tmp_path / "other.db") as other:
        other.open(create=True)
        other.backup(Path(copy))

    done = unopened_run("db", "restore", copy, "--json")

    assert done.stderr.startswith("Warning: keys that were revoked since the backup may work")
    assert "there was no database" == json.loads(done.stdout)["keys"]["problem"]
    assert (0, 1) == (done.exit_code, len(store.load().keys))


def test_restore_of_changed_keys(run: Callable[..., Result], store: Store, tmp_path: Path) -> None:
    """A restore names the keys that are not what they were."""
    run("keys", "create", "billing")
    kid = next(key.kid for key in store.load().keys if key.name == "billing")
    copy = tmp_path / "copy.db"
    run("db", "backup", str(copy))
    store.close()
    with closing(sqlite.connect(copy)) as connection, connection:
        connection.execute(
            "UPDATE keys SET document = json_set(document, '$.scopes', json('[\"admin\"]'))"
            "WHERE kid = ?",
            (kid,),
        )

    done = run("db", "restore", str(copy))

    assert (
        f"Edited since, or in the file; see 'flask keys show ID': {kid} (billing)."
        == done.stdout.splitlines()[-1]
    )


def test_restore_of_a_key_with_a_name_from_before(
    run: Callable[..., Result], store: Store, tmp_path: Path
) -> None:
    """A stored name cannot turn, break or colour a line, and JSON has it escaped."""
    name = "a\u202eb\u2028c\x1b[31m\x9b"
    key = describe(mint(), name=name, created=0)
    copy = tmp_path / "copy.db"
    run("db", "backup", str(copy))
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        transaction.put_key(key, None, "key.create")
    listed = run("keys", "list", "--json").stdout
    rotated = run("keys", "rotate", key.kid)
    store.close()

    done = run("db", "restore", str(copy))

    shown = "a\ufffdb\ufffdc\ufffd[31m\ufffd"
    assert f" {key.kid} ({shown})" in done.stdout.splitlines()[-1]
    assert f" for {shown}, " in rotated.stderr
    assert UNWANTED.search(listed.rstrip("\n")) is None
    assert name in [row["name"] for row in json.loads(listed)["data"]]


def test_restore_of_used(run: Callable[..., Result], tmp_path: Path) -> None:
    """What is in use is not replaced."""
    copy = tmp_path / "copy.db"
    run("db", "backup", str(copy))

    done = run("db", "restore", str(copy))

    assert (1, "") == (done.exit_code, done.stdout)
    assert done.stderr.startswith("Error: Servers or commands have the database open: ")


def test_copy(run: Callable[..., Result], store: Store, tmp_path: Path) -> None:
    """A copy says how much it took along; a database that has anything is refused."""
    run("models", "add", "x")
    target = tmp_path / "copy" / "roster.db"

    done = run("db", "copy", f"sqlite:///{target}")
    again = run("db", "copy", f"sqlite:///{target}", "--json")

    assert "Copied 1 entries, 1 keys and 2 changes, revision 2.\n" == done.stdout
    assert (1, "") == (again.exit_code, again.stdout)
    assert "Error: The database to copy to is not empty: nothing was copied.\n" == again.stderr
    with opened(target) as copied:
        assert store.load().models == copied.load().models


@pytest.mark.databases("sqlite", "postgresql")
def test_pruning_the_history(
    run: Callable[..., Result], clock: Any, log: Callable[[], list[Any]], settings: Settings
) -> None:
    """It is shown what would be removed, then it is removed, and then there is nothing more."""
    for name in "abc":
        run("models", "edit", "x", f"name={name}") if log()[1:] else run("models", "add", "x")
    clock.now += 2 * 86400
    run("models", "edit", "x", "name=d")
    args = ("db", "prune-history", "--before", "yesterday")

    shown = run(*args, "--dry-run")
    lines = log()
    planned = json.loads(run(*args, "--dry-run", "--json").stdout)
    done = run(*args, "--yes")
    again = run(*args, "--yes")

    size = planned.pop("size")
    what = (
        f"3 of 5 lines of the log, about {size:,} bytes; it is complete from revision 4 of "
        "2027-01-15T08:00:00Z on.\n"
    )
    room = "PostgreSQL uses" if settings.database_url else "The file stays as large, and"
    assert (f"Plan: remove {what}", 5) == (shown.stdout, len(lines))
    assert {"dry_run": True, "lines": 3, "of": 5, "revision": 4, "at": 1800000000} == planned
    assert done.stdout.startswith(f"Removed {what}{room} ")
    assert [4, 5] == [line.revision for line in log()]
    assert "No line of the log is to be removed.\n" == again.stdout


def test_a_smaller_file(
    run: Callable[..., Result], clock: Any, store: Store, settings: Settings, tmp_path: Path
) -> None:
    """After a pruning, the file is as large as before until a backup of it is restored."""
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        for number in range(50):
            model = Model.compose({"id": str(number), "name": "x" * 9000}, now=0)
            transaction.write([Change(None, model)])
            transaction.write([Change(model, None)])
    store.close()
    large = settings.database_path.stat().st_size
    removed = json.loads(run("db", "prune-history", "--before", "1d", "--yes", "--json").stdout)
    copy = str(tmp_path / "copy.db")
    run("db", "backup", copy)
    store.close()
    before = settings.database_path.stat().st_size
    run("db", "restore", copy)
    store.close()

    assert large <= before
    assert removed["size"] / 2 < before - settings.database_path.stat().st_size


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["backup"], 2, "Error: Missing argument 'FILE'."),
        (["backup", "absent/copy.db"], 1, "Error: "),
        (["backup", "."], 1, "Error: "),
        (["backup", ".."], 1, "Error: "),
        (["copy"], 2, "Error: Missing argument 'URL'."),
        (["copy", "mysql://roster:hunter2@db/x"], 2, "URL: Must be sqlite:///PATH or "),
        (["restore"], 2, "Error: Missing argument 'FILE'."),
        (["restore", "absent.db"], 1, "absent.db cannot be read: No such file or directory"),
        (["restore", "."], 2, "is a directory"),
        (["prune-history"], 2, "Error: Missing option '--before'."),
        (["prune-history", "--before", "soon"], 2, "'soon' is no time: give a day like"),
        (["prune-history", "--before", "2999-01-01", "--yes"], 2, "must not be in the future."),
        (["prune-history", "--before", "1d"], 1, "There is no terminal to ask you on"),
        (["prune-history", "--before", "1d", "--json"], 2, "--json asks no question"),
        (["downgrade"], 2, "Error: No such command 'downgrade'."),
    ],
)
def test_mistake(
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    args: list[str],
    code: int,
    sentence: str,
) -> None:
    """A mistake is told in a sentence and gives an exit code."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    done = run("db", *args)

    assert sentence in done.stderr
    assert (code, "") == (done.exit_code, done.stdout)
    assert [] == list(Path().iterdir())
