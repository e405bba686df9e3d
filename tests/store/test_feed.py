"""What the log says to a follower: from any position, each entry and key once."""

import tracemalloc
from dataclasses import replace

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor, Change, Position
from app.store.documents import read_model, write_model
from app.store.store import Store
from app.store.tables import keys, models
from tests.writing import write

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NOW = 1_800_000_000
KEYS = {name: describe(mint(), name=name, created=NOW) for name in "abc"}


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


def put(transaction, model_id, description):
    new = Model.compose({"id": model_id, "description": description}, now=NOW)
    return write(transaction, new, transaction.models_of([model_id]).get(model_id))


def remove(transaction, model_id):
    stored = transaction.models_of([model_id]).get(model_id)
    if stored is not None:
        transaction.write([Change(stored, None)])


def put_key(transaction, name):
    stored = transaction.key(KEYS[name].kid)
    new = stored or KEYS[name]
    transaction.put_key(replace(new, retires_at=(new.retires_at or 0) + 1), stored, "key.rotate")


def contents(entries, api_keys):
    """Return what there is, with revisions, which do not make two entries differ."""
    known = {model.id: (model, model.revision) for model in entries}
    return known, {key.kid: key for key in api_keys}


def test_each_entry_is_read_once(store, monkeypatch):
    """A follower that is 500 changes behind reads the three entries that they changed."""
    documents = []

    def counted(document, revision):
        documents.append(document)
        return read_model(document, revision)

    start = store.position()
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        stored = [put(transaction, "abc"[number % 3], str(number)) for number in range(500)]
    monkeypatch.setattr("app.store.store.read_model", counted)
    changes = store.changes_since(start)

    assert start.revision + 500 == changes.revision
    assert contents(stored[-3:], []) == contents(changes.models.values(), [])
    assert sorted(map(write_model, stored[-3:])) == sorted(documents)


def test_memory_does_not_grow_with_the_log(store):
    """A follower that is 100 changes of a large entry behind holds that entry once."""
    start = store.position()
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for number in range(100):
            stored = put(transaction, "x", f"{number:06}" * 5_000)
    store.changes_since(start)  # what is made once is made here
    tracemalloc.start()
    try:
        changes = store.changes_since(start)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert stored == changes.models["x"]
    assert peak < 10 * len(write_model(stored))


@pytest.mark.databases("sqlite")
def test_a_follower_searches_and_never_scans(store):
    """However long the log is, SQLite begins at the follower's position and looks up the rows."""
    position = store.position()
    executed = []
    sa.event.listen(
        store.backend.reading, "before_cursor_execute", lambda *args: executed.append(args[2:4])
    )
    store.changes_since(position)
    [(statement, parameters)] = executed
    with store.backend.reading.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = [row.detail.split(" (")[0] for row in rows]

    index = "USING INDEX sqlite_autoindex"
    tables = ("changes", "models", "keys")
    assert [f"SEARCH {table} {index}_{table}_1" for table in tables] == [
        step for step in steps if step.split()[1] in tables
    ]


STEPS = {
    "put": lambda transaction, name: put(transaction, name, name),
    "remove": remove,
    "key": put_key,
}


@hypothesis.settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # it is emptied
)
@hypothesis.given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from("abc")), max_size=4),
        max_size=6,
    )
)
def test_any_history_is_followed_from_anywhere(store, writes):
    """From each earlier position, the changes lead to what is stored now."""
    with store.backend.reading.begin() as connection:
        for table in (models, keys):
            connection.execute(sa.delete(table))
    catalogs = [store.load()]
    for steps in writes:
        with store.transaction(actor=Actor("test"), now=NOW) as transaction:
            for step, name in steps:
                STEPS[step](transaction, name)
        catalogs.append(store.load())
    last = catalogs[-1]
    for catalog in catalogs:
        position = Position(catalog.revision, catalog.mark)
        for own in (None, store.own_changes(position, store.position())):
            changes = own or store.changes_since(position)
            if catalog.revision == last.revision:
                assert changes is None
                continue
            entries = {**{model.id: model for model in catalog.models}, **changes.models}
            api_keys = {**{key.kid: key for key in catalog.keys}, **changes.keys}

            assert last.revision == changes.revision
            assert contents(last.models, last.keys) == contents(
                filter(None, entries.values()), api_keys.values()
            )


def test_what_a_process_has_written_is_not_read_back(store, settings, clock):
    """Its own last change costs no statement, unless others have written before or after it."""
    other = Store(settings, clock)
    statements = []
    sa.event.listen(
        store.backend.reading, "before_cursor_execute", lambda *args: statements.append(args[2])
    )

    def follow(writers):
        """Return which ids have changed after each of them has put one, and what was read."""
        before = store.position()
        for number, writer in enumerate(writers):
            with writer.transaction(actor=Actor("test"), now=NOW) as transaction:
                put(transaction, f"m{number}", "x")
        newest = store.position()
        statements.clear()
        changes = store.own_changes(before, newest) or store.changes_since(before)

        assert newest == (changes.revision, changes.mark)
        return list(changes.models), any("changes" in text for text in statements)

    assert (["m0"], False) == follow([store])
    assert (["m0", "m1"], False) == follow([store, store])
    assert (["m0", "m1"], True) == follow([store, other])
    assert (["m0", "m1"], True) == follow([other, store])
    assert (["m0"], True) == follow([other])
    other.close()
