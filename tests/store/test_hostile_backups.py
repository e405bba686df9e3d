"""Files that are given to a restore as backups, and are none: refused, and nothing is changed."""

# ruff: noqa: S608 - a test makes its SQL of what it knows

import json
import multiprocessing
import os
import struct
from contextlib import closing

import pytest

from app.catalog.errors import RosterError, StoreUnavailable
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.catalog.sources import FailedRun, GoodRun
from app.settings import Settings
from app.store.documents import check_key, check_model
from app.store.schema import HEAD
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from tests.writing import write

NOW = 1_800_000_000
#: How long one file may hold up a restore, in seconds.
BOUND = 5.0
PAGE = 4096
SECRET = "ro_" + "A" * 8 + "_" + "b" * 38
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The content of a backup with the entry x, the key AAAAAAAA, a log and a source."""
    folder = tmp_path_factory.mktemp("good")
    store = Store(Settings(instance_path=folder), lambda: NOW)
    store.open(create=True)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        write(transaction, Model.compose({"id": "x", "name": "X"}, now=NOW))
        transaction.put_key(describe(SECRET, name="billing", created=NOW), None, "key.create")
    store.record_run("litellm", GoodRun(at=NOW, revision=2, added=1), known_format="litellm")
    store.record_run("litellm", FailedRun(at=NOW, message="The file is no catalogue."))
    store.backup(folder / "backup.db")
    store.close()
    return (folder / "backup.db").read_bytes()


@pytest.fixture
def store(settings, clock, good):
    """A store whose database is the good one."""
    settings.instance_path.mkdir()
    settings.database_path.write_bytes(good)
    store = Store(settings, clock)
    yield store
    store.close()


def refusal(store, file):
    """Return why `file` is refused, by a process that is killed when it takes too long."""

    def restore():
        try:
            mine.send(store.restore(file, actor=Actor("test")))
        except StoreUnavailable as error:
            mine.send(error.reason)

    ours, mine = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=restore)
    process.start()
    mine.close()
    try:
        return ours.recv() if ours.poll(BOUND) else f"nothing within {BOUND} s"
    finally:
        process.kill()
        process.join()
        ours.close()


@pytest.fixture(scope="module")
def good_rows(good, tmp_path_factory):
    """A row of each table that holds documents."""
    file = tmp_path_factory.mktemp("rows") / "good.db"
    file.write_bytes(good)
    connection = sqlite.connect(file)
    rows = {
        "models": connection.execute("SELECT revision, document FROM models").fetchone(),
        "keys": connection.execute("SELECT * FROM keys").fetchone(),
    }
    connection.close()
    return rows


def check(table, row):
    if table == "models":
        check_model(row[1], row[0])
    else:
        check_key(*row)


def content(store):
    return {path.name: path.read_bytes() for path in store.settings.instance_path.iterdir()}


def run(path, *statements):
    connection = sqlite.connect(path, isolation_level=None)
    for statement in ("PRAGMA writable_schema=ON", *statements):
        connection.execute(statement)
    connection.close()


def redefined(table, before, after):
    """Return the statement that changes the stored schema of a table."""
    return (
        f"UPDATE sqlite_master SET sql = replace(sql, '{before}', '{after}') "
        f"WHERE name = '{table}' AND instr(sql, '{before}')"
    )


SCHEMAS = {
    "a trigger on keys": (
        "CREATE TRIGGER t BEFORE UPDATE ON keys BEGIN SELECT RAISE(IGNORE); END",
    ),
    "an endless trigger": (
        f"""CREATE TRIGGER t AFTER UPDATE ON catalogue BEGIN
        INSERT INTO models SELECT i, i, i FROM ({ENDLESS} SELECT i FROM n); END""",
    ),
    "a view": ("CREATE VIEW v AS SELECT 1",),
    "a space in a name": (
        "UPDATE sqlite_master SET sql = replace(sql, 'document TEXT', 'document\u00a0 TEXT')",
    ),
    "models is an endless view": (
        "DROP TABLE models",
        f"CREATE VIEW models AS {ENDLESS} SELECT i AS id, i AS revision, i AS document FROM n",
    ),
    "catalogue is an endless view": (
        "DROP TABLE catalogue",
        f"CREATE VIEW catalogue AS {ENDLESS} SELECT max(i) AS revision FROM n",
    ),
    "the schema's number is an endless view": (
        "DROP TABLE alembic_version",
        f"CREATE VIEW alembic_version AS {ENDLESS} SELECT max(i) AS version_num FROM n",
    ),
    "a generated column": ("ALTER TABLE models ADD COLUMN g AS (hex(zeroblob(400000000)))",),
    "an index on an expression": ("CREATE INDEX i ON models (abs(revision))",),
    "a costly CHECK": (
        redefined("models", "PRIMARY KEY", "CHECK (hex(zeroblob(400000000)) > 1), PRIMARY KEY"),
    ),
    "a table": ("CREATE TABLE t (x)",),
    "an index": ("CREATE INDEX i ON models (revision)",),
    "a partial unique index": ("CREATE UNIQUE INDEX i ON keys (digest) WHERE kid > 'B'",),
    "a virtual table": ("CREATE VIRTUAL TABLE f USING fts5 (x)",),
    "a table with AUTOINCREMENT": ("CREATE TABLE t (x INTEGER PRIMARY KEY AUTOINCREMENT)",),
    "a column more": ("ALTER TABLE keys ADD COLUMN x TEXT",),
    "a column less": ("ALTER TABLE changes DROP COLUMN request_id",),
    "an index less": ("DROP INDEX changes_by_model",),
    "a table less": ("DROP TABLE models",),
    "another default": (redefined("catalogue", "''1''", "''2''"),),
    "a column in the name of another": (
        redefined("models", "id TEXT NOT NULL", '"id TEXT NOT NULL'),
        redefined("models", "revision BIGINT", 'revision" BIGINT'),
    ),
    "another collation": (redefined("changes", "actor TEXT", "actor TEXT COLLATE NOCASE"),),
    "no table of rows": (
        "DROP TABLE keys",
        """CREATE TABLE keys (kid TEXT NOT NULL, digest TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (kid), UNIQUE (digest)) WITHOUT ROWID""",
    ),
    "statistics of somebody's own": (
        "CREATE TABLE t (x)",
        "ANALYZE",
        "DROP TABLE t",
        redefined("sqlite_stat1", "stat)", "stat, more)"),
    ),
    "no schema": ("DROP TABLE alembic_version",),
    "an older number than the schema": ("UPDATE alembic_version SET version_num = '0002'",),
    "no SQL": ("UPDATE sqlite_master SET sql = 'CREATE TABLE models((' WHERE name = 'models'",),
    "another table's pages": (
        """UPDATE sqlite_master SET rootpage =
        (SELECT rootpage FROM sqlite_master WHERE name = 'models') WHERE name = 'keys'""",
    ),
}

ROWS = {
    "two numbers of schemas": "INSERT INTO alembic_version VALUES ('0002')",
    "no number of a schema": "DELETE FROM alembic_version",
    "a word for a schema": "UPDATE alembic_version SET version_num = 'abc'",
    "schema 0": "UPDATE alembic_version SET version_num = '0000'",
    "bytes for a schema": "UPDATE alembic_version SET version_num = x'30303033'",
    "a long number": f"UPDATE alembic_version SET version_num = '{'9' * 5000}'",
    "a newer schema": f"UPDATE alembic_version SET version_num = '{HEAD + 1:04}'",
    "no catalogue": "DELETE FROM catalogue",
    "two catalogues": "INSERT INTO catalogue VALUES (2, 9, '', 1, '', 0)",
    "a revision in words": "UPDATE catalogue SET revision = 'many'",
    "the last revision": f"UPDATE catalogue SET revision = {2**63 - 1}",
    "a revision below an entry's": "UPDATE catalogue SET revision = 1",
    "only newer programs": "UPDATE catalogue SET oldest_schema = 99",
    "no number of the oldest program": "UPDATE catalogue SET oldest_schema = 'x'",
    "an entry's id in bytes": "UPDATE models SET id = x'78'",
    "an entry without revision": "UPDATE models SET revision = 'x'",
    "an entry's revision 0": "UPDATE models SET revision = 0",
    "another id": "UPDATE models SET id = 'y'",
    "no JSON": "UPDATE models SET document = '{'",
    "no object": "UPDATE models SET document = '[]'",
    "bytes": "UPDATE models SET document = CAST(document AS BLOB)",
    "no UTF-8": "UPDATE models SET document = CAST(x'7b22ff227d' AS TEXT)",
    "NUL": "UPDATE models SET document = document || char(0)",
    "NaN": "UPDATE models SET document = replace(document, '1800000000', 'NaN')",
    "no number": "UPDATE models SET document = replace(document, '1800000000', '1e999')",
    "a key twice": """UPDATE models SET document = '{"id":"y",' || substr(document, 2)""",
    "100,000 levels": f"UPDATE models SET document = '{'[' * 100_000}'",
    "two megabytes": "UPDATE models SET document = hex(zeroblob(1000000))",
    "a lone surrogate": r"""UPDATE models SET document = replace(document, '"X"', '"\ud800"')""",
    "a digest in capitals": "UPDATE keys SET digest = upper(digest)",
    "no digest": "UPDATE keys SET digest = substr(digest, 2)",
    "a digest in bytes": "UPDATE keys SET digest = CAST(digest AS BLOB)",
    "no id of a key": "UPDATE keys SET kid = kid || char(10) WHERE kid = 'AAAAAAAA'",
    "a change that is to come": "UPDATE changes SET revision = 99 WHERE revision = 3",
    "a change at no time": "UPDATE changes SET at = 'x'",
    "a change by bytes": "UPDATE changes SET actor = x'00'",
    "a change of several lines": "UPDATE changes SET action = 'x' || char(10) || 'y'",
    "a key in a change": f"UPDATE changes SET actor = '{mint()}'",
    "a long change": "UPDATE changes SET action = hex(zeroblob(1000))",
    "a change from no JSON": "UPDATE changes SET before = 'x'",
    "a change to a list": "UPDATE changes SET after = '[]'",
    "a change of a later batch": "UPDATE changes SET batch = 99",
    "a source without a name": "UPDATE sources SET name = ''",
    "a source of several lines": "UPDATE sources SET name = 'x' || char(10) || 'y'",
    "a source's name in bytes": "UPDATE sources SET name = x'78'",
    "a format in bytes": "UPDATE sources SET format = x'78'",
    "a long format": "UPDATE sources SET format = hex(zeroblob(1000))",
    "a run that is no JSON": "UPDATE sources SET last_good = '{'",
    "a run that is a list": "UPDATE sources SET last_failed = '[]'",
    "a run in bytes": "UPDATE sources SET last_good = CAST(last_good AS BLOB)",
    "a run at no time": "UPDATE sources SET last_good = json_remove(last_good, '$.at')",
    "a run in a far future": f"""UPDATE sources
    SET last_failed = json_set(last_failed, '$.at', {2**40})""",
    "a count below 0": "UPDATE sources SET last_good = json_set(last_good, '$.added', -1)",
    "a count in words": "UPDATE sources SET last_good = json_set(last_good, '$.kept', 'many')",
    "a run's revision in words": """UPDATE sources
    SET last_good = json_set(last_good, '$.revision', 'x')""",
    "a failure of several lines": r"""UPDATE sources
    SET last_failed = '{"at":1,"message":"x\ny"}'""",
    "a long failure": """UPDATE sources
    SET last_failed = json_set(last_failed, '$.message', hex(zeroblob(1000)))""",
}

MEMBERS = {
    "models": {
        "created": ["x", None, -1, 2**40, 1.5, True],
        "id": ["x\u0001", 5, "x?"],
        "permission": [{}, [{"id": 5, "created": NOW}], [{"created": NOW}], [5], "x", None],
        "name": [7, "", "\u0007"],
        "pricing": [{"prompt": 0.5}, {"prompt": "free"}, []],
        "architecture": [[], {"input_modalities": "text"}],
        "supported_parameters": [{}],
        "deprecation": ["soon"],
        "shutdown_date": ["2027-13-01"],
    },
    "keys": {
        "scopes": [["root"], [], "admin", None],
        "organization": ["*", 5],
        "groups": [{}, [5], None],
        "created": ["x", None],
        "revoked_at": ["x", 0.5],
        "expires_at": ["never"],
        "name": [5, ""],
    },
}
DOCUMENTS = [
    (table, name, value)
    for table, members in MEMBERS.items()
    for name, values in members.items()
    for value in values
]


def check_refused(store, file, *words):
    before = content(store)
    reason = refusal(store, file)

    assert isinstance(reason, str), reason
    assert reason.startswith(f"{file} "), reason
    assert len(reason.splitlines()) == 1
    assert all(word in reason for word in words), reason
    assert before == {name: data for name, data in content(store).items() if name in before}
    assert {"roster.db.users"} >= content(store).keys() - before.keys()


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_another_schema(store, good, tmp_path, statements):
    """Whatever a schema has that is not ours, it is refused and none of it runs."""
    file = tmp_path / "hostile.db"
    file.write_bytes(good)
    run(file, *statements)

    check_refused(store, file)


@pytest.mark.parametrize("statement", ROWS.values(), ids=ROWS)
def test_other_rows(store, good, tmp_path, statement):
    """A row that we would not have written is refused."""
    file = tmp_path / "hostile.db"
    file.write_bytes(good)
    run(file, "PRAGMA ignore_check_constraints=ON", statement)

    check_refused(store, file)


@pytest.mark.parametrize(("table", "name", "value"), DOCUMENTS)
def test_other_documents(good_rows, table, name, value):
    """A field that is missing, of a wrong type or out of its range is refused."""
    row = good_rows[table]
    document = json.dumps({**json.loads(row[-1]), name: value})

    check(table, row)
    with pytest.raises(RosterError) as refused:
        check(table, (*row[:-1], document))
    assert name in f"{refused.value} {getattr(refused.value, 'reason', '')}".lower()


@pytest.mark.parametrize(("table", "name"), [("models", "created"), ("keys", "revoked_at")])
def test_a_document_is_named(store, good, tmp_path, table, name):
    """The sentence names the table, the row and the field."""
    file = tmp_path / "hostile.db"
    file.write_bytes(good)
    run(file, f"UPDATE {table} SET document = json_set(document, '$.{name}', 'x')")

    check_refused(store, file, f"in {table}, the row '", f"is wrong: {name}: Must be a whole")


def leaf(*rows):
    """Return a page of a table with these records, by row id."""
    page, end = bytearray(PAGE), PAGE
    for index, (rowid, record) in enumerate(rows):
        cell = bytes([len(record), rowid]) + record
        end -= len(cell)
        page[end : end + len(cell)] = cell
        struct.pack_into(">H", page, 8 + 2 * index, end)
    struct.pack_into(">BHHHB", page, 0, 13, 0, len(rows), end, 0)
    return page


def fork(child, last, offset=0):
    """Return a page that names the page `child` a hundred times, and in the end `last`."""
    page, end = bytearray(PAGE), PAGE
    for index in range(100):
        end -= 5
        struct.pack_into(">IB", page, end, child, 100)
        struct.pack_into(">H", page, offset + 12 + 2 * index, end)
    struct.pack_into(">BHHHBI", page, offset, 5, 0, 100, end, 0, last)
    return page


def with_loop(good, root):
    """Return a file whose tree at the page `root` has 100 to the power of 15 leaves.

    These say once more where an index of our own is, which SQLite takes as it comes.
    """
    pages = len(good) // PAGE
    texts = [b"index", b"sqlite_autoindex_models_1", b"models"]
    record = bytes([6, *(13 + 2 * len(text) for text in texts), 1, 0]) + b"".join(texts) + b"\6"
    added = [fork(pages + level + 2, pages + level + 2) for level in range(15)]
    added.append(leaf((100, record)))
    data = bytearray(good)
    offset = 100 if root == 1 else 0  # where the header of the file is
    page = fork(pages + 1, pages + 1, offset)
    if root == 1:  # the schema itself comes first, on a page of its own
        added.append(bytearray(PAGE))
        [rows] = struct.unpack_from(">H", data, 103)
        added[-1][: 8 + 2 * rows] = data[100 : 108 + 2 * rows]
        added[-1][8 + 2 * rows :] = data[8 + 2 * rows : PAGE]
        page[:100] = data[:100]
        struct.pack_into(">I", page, PAGE - 5, pages + len(added))
    data[(root - 1) * PAGE : root * PAGE] = page
    data += b"".join(added)
    struct.pack_into(">I", data, 28, len(data) // PAGE)
    return bytes(data)


def patched(good, place, data):
    return good[:place] + data + good[place + len(data) :]


BYTES = {
    "nothing": lambda _: b"",
    "zeros": lambda good: bytes(len(good)),
    "a text": lambda _: b"these are no pages at all, " * 1000,
    "half of it": lambda good: good[: len(good) // 2],
    "a page less": lambda good: good[:-PAGE],
    "noise": lambda good: good[: 2 * PAGE] + os.urandom(len(good) - 2 * PAGE),
    "encrypted": lambda good: good[:16] + os.urandom(len(good) - 16),
    "more pages than it has": lambda good: patched(good, 28, struct.pack(">I", 2**28)),
    "pages that are free and used": lambda good: patched(good, 32, struct.pack(">II", 5, 3)),
    "pages of one byte": lambda good: patched(good, 16, b"\0\1"),
    "a format to come": lambda good: patched(good, 18, b"\x09\x09"),
    "a loop in the schema": lambda good: with_loop(good, 1),
    "a page for a thousand tables": lambda good: with_loop(good, 5),
}


@pytest.mark.parametrize("change", BYTES.values(), ids=BYTES)
def test_other_bytes(store, good, tmp_path, change, monkeypatch):
    """What is damaged, on purpose or not, is refused."""
    monkeypatch.setattr("app.store.sqlite.backup._PATIENCE", 0.3)
    file = tmp_path / "hostile.db"
    file.write_bytes(change(good))

    check_refused(store, file)


def test_a_loop_in_the_database_before(store, good, tmp_path):
    """A database whose keys would be read forever is replaced, with a warning."""
    file = tmp_path / "good.db"
    file.write_bytes(good)
    with closing(sqlite.connect(file)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'keys'")
    store.settings.database_path.write_bytes(with_loop(good, root))

    assert "the table of keys is damaged" == refusal(store, file).keys.problem


def sparse(file, good):
    file.write_bytes(patched(good, 28, struct.pack(">I", 2**28)))
    os.truncate(file, 2**40)


OTHERS = {
    "a terabyte of holes": sparse,
    "a pipe": lambda file, _: os.mkfifo(file),
    "a folder": lambda file, _: file.mkdir(),
    "a link to zeros without end": lambda file, _: file.symlink_to("/dev/zero"),
    "a link to nothing": lambda file, _: file.symlink_to("absent"),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_files(store, good, tmp_path, make):
    """What is no file, or has no end, is refused."""
    file = tmp_path / "hostile.db"
    make(file, good)

    check_refused(store, file)


def test_the_good_one(store, good, tmp_path):
    """What all of these are made of is restored: through a link, and without what is behind it."""
    (tmp_path / "good.db").write_bytes(good)
    (tmp_path / "link.db").symlink_to("good.db")
    (tmp_path / "long.db").write_bytes(good)
    os.truncate(tmp_path / "long.db", 2**40)

    assert [1] * 3 == [refusal(store, path).entries for path in tmp_path.glob("*.db")]
    assert len(good) == store.settings.database_path.stat().st_size
