"""A catalogue moves from one database to another, with all that it was."""

import multiprocessing
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.catalog.sources import FailedRun, GoodRun
from app.settings import Settings
from app.store import copying
from app.store.copying import Contents
from app.store.sqlite.locks import IN_USE
from app.store.store import Store
from app.store.tables import metadata
from tests.writing import write

pytestmark = pytest.mark.databases("sqlite", "postgresql")
NOW = 1_800_000_000


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    with store.transaction(actor=Actor("test"), now=NOW) as transaction:
        for number in range(2500):
            fields = {"name": "\u00fc\U0001f600", "aliases": [f"other-{number}"]}
            new = Model.compose({"id": f"m{number}", **fields}, now=NOW)
            stored = write(transaction, new)
        transaction.write([Change(stored, None)])
        key = describe(mint(), name="n", created=NOW)
        transaction.put_key(key, None, "key.create")
    store.record_run("litellm", GoodRun(at=NOW, revision=2501, added=2500))
    store.record_run("litellm", FailedRun(at=NOW, message="The file is no catalogue."))
    yield store
    store.close()


@pytest.fixture
def target(request, settings, tmp_path, clock):
    """An empty database of the other kind."""
    if settings.database_url is None:
        cluster = request.getfixturevalue("cluster")
        url = cluster.url(cluster.create())
    else:
        url = f"sqlite:///{tmp_path}/other/roster.db"
    store = Store(Settings(instance_path=tmp_path / "other", database_url=url), clock)
    yield store
    store.close()


@pytest.fixture
def url(target):
    return target.settings.database_url or f"sqlite:///{target.settings.database_path}"


@contextmanager
def other_process(settings, clock):
    """Let another process have the database open."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def read_and_wait():
        reader = Store(settings, clock)
        reader.position()
        barrier.wait(60)
        barrier.wait(60)

    process = context.Process(target=read_and_wait)
    process.start()
    barrier.wait(60)
    try:
        yield
    finally:
        barrier.wait(60)
        process.join()


def rows(store):
    """Return every row but for the lineage."""
    found = {}
    with store.backend.reading.connect() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.c if column.name != "lineage"]
            found[table.name] = sorted(map(repr, connection.execute(sa.select(*columns))))
    return found


@pytest.mark.needs("initdb", "postgresql")
def test_everything_is_copied(store, target, url):
    """Each row of each table is there, and writing goes on at the next revision."""
    copied = store.copy_to(url)

    assert Contents(revision=2503, entries=2499, keys=2, changes=2503) == copied
    assert rows(store) == rows(target)
    assert store.position() == target.position()
    after = target.position()
    with target.transaction(actor=Actor("test"), now=NOW) as transaction:
        put = write(transaction, Model.compose({"id": "new"}, now=NOW))
    assert 2504 == put.revision
    assert [put] == list(target.changes_since(after).models.values())


@pytest.mark.needs("initdb", "postgresql")
def test_a_catalogue_is_never_mixed_with_another(store, target, url):
    """A database that has anything in it is refused and stays as it is."""
    target.open(create=True)
    before = rows(target)

    with pytest.raises(StoreRefused) as refused:
        store.copy_to(url)
    assert "is not empty" in refused.value.reason
    assert before == rows(target)


@pytest.mark.databases("sqlite")
def test_what_servers_have_open_is_not_copied(settings, clock, tmp_path, monkeypatch):
    """What they write meanwhile would stay behind; who comes during a copy waits for its end."""
    monkeypatch.setattr("app.store.sqlite.locks.OPEN_TIMEOUT", 0.05)
    url = f"sqlite:///{tmp_path}/other/roster.db"
    store = Store(settings, clock)
    store.open(create=True)
    with other_process(settings, clock):
        with pytest.raises(StoreRefused) as refused:
            store.copy_to(url)
        assert IN_USE == refused.value.reason
        assert not (tmp_path / "other").exists()
    with store.backend.alone(), pytest.raises(StoreUnavailable) as waited:
        Store(settings, clock).position()
    assert "Another process checks, copies or restores the database." == waited.value.reason
    assert 1 == store.copy_to(url).keys
    with other_process(settings, clock):  # the lock is shared again
        assert 1 == store.position().revision
    store.close()


@pytest.mark.needs("initdb", "postgresql")
def test_half_a_copy_is_none(store, target, url, monkeypatch):
    """A copy that does not hold what the source has leaves nothing behind."""
    monkeypatch.setattr(copying, "contents", lambda connection: Contents(id(connection), 0, 0, 0))

    with pytest.raises(StoreRefused):
        store.copy_to(url)
    assert target.schema() is None
