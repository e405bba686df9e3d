"""A catalogue moves from one database to another, with all that it was."""

import pytest
import sqlalchemy as sa

from app.catalog.errors import StoreRefused
from app.catalog.keys import describe, mint
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store import copying
from app.store.copying import Contents
from app.store.store import Store
from app.store.tables import metadata

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
            stored = transaction.put_model(new, None)
        transaction.remove_model(stored)
        key = describe(mint(), name="n", created=NOW)
        transaction.put_key(key, None, "key.create")
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
        put = transaction.put_model(Model.compose({"id": "new"}, now=NOW), None)
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


@pytest.mark.needs("initdb", "postgresql")
def test_half_a_copy_is_none(store, target, url, monkeypatch):
    """A copy that does not hold what the source has leaves nothing behind."""
    monkeypatch.setattr(copying, "contents", lambda connection: Contents(id(connection), 0, 0, 0))

    with pytest.raises(StoreRefused):
        store.copy_to(url)
    assert target.schema() is None
