"""Stored documents outlive the program that wrote them: what is not known stays as it is."""

import json

import pytest
import sqlalchemy as sa

from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store import documents
from app.store.documents import read_model, write_model
from app.store.schema import begin_history
from app.store.store import Store
from app.store.tables import changes, keys, models

TEST = Actor("test")
#: What a newer program may have stored with an entry, a permission and a key.
NEWER = {"zones": ["north"], "limits": {"rpm": 60.5, "burst": None}, "meta": "a name of ours"}


def add_members(store, table, document):
    with store.backend.reading.begin() as connection:
        connection.execute(sa.update(table).values(document=json.dumps(document)))
        begin_history(connection)  # or nobody would read it


def stored(store, table=models):
    with store.backend.reading.connect() as connection:
        return json.loads(connection.execute(sa.select(table.c.document)).scalar_one())


@pytest.fixture
def newer(app, admin):
    """The application on an entry and a key that a newer program has written."""
    admin.add("x", name="X", permission=[{"id": "p1"}, {"id": "p2", "organization": "acme"}])
    store = app.extensions["roster"].store
    for table in (models, keys):
        document = stored(store, table)
        for permission in document.get("permission", ()):
            permission.update(NEWER)
        add_members(store, table, {**document, **NEWER})
    return store


def test_what_a_newer_program_stored_is_shown_to_nobody(newer, client, admin):
    """No reply has what this program does not know, in any dialect and to administrators."""
    asked = [
        admin("GET", "/admin/models"),
        admin("GET", "/admin/models/x"),
        admin("GET", "/admin/keys"),
        *(
            client.get(f"{path}{x}")
            for path in ("/v1/models", "/v1beta/models")
            for x in ("", "/x")
        ),
        client.get("/v1/models", headers={"anthropic-version": "1"}),
        client.get("/api/tags"),
        client.post("/api/show", json={"model": "x"}),
    ]

    assert [200] * len(asked) == [answer.status_code for answer in asked]
    assert not [a.text for a in asked if "other-name" in a.text or "rpm" in a.text]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_write_keeps_what_a_newer_program_stored(newer, admin, method):
    """It stays with the entry and with each permission that stays, and is in the log."""
    given = admin("GET", "/admin/models/x").json
    changed = {**given, "name": "new", "permission": [given["permission"][1], {"id": "p3"}]}
    answer = admin(method, "/admin/models/x", changed)
    document = stored(newer)

    assert (200, "new") == (answer.status_code, document["name"])
    assert NEWER.items() <= document.items()
    assert [("p2", True), ("p3", False)] == [
        (p["id"], NEWER.items() <= p.items()) for p in document["permission"]
    ]
    with newer.backend.reading.connect() as connection:
        line = connection.execute(sa.select(changes).order_by(-changes.c.revision)).first()
    assert document == json.loads(line.after)
    assert NEWER.items() <= json.loads(line.before).items()


def test_what_is_given_back_changes_nothing(newer, admin):
    """PUT of what GET gave is no change, although GET does not show all that is stored."""
    before = admin("GET", "/admin/models/x")
    answer = admin("PUT", "/admin/models/x", before.json)

    assert (200, before.headers["ETag"]) == (answer.status_code, answer.headers["ETag"])


def test_a_key_keeps_what_a_newer_program_stored(newer, admin):
    """Also when it is revoked."""
    [key] = admin("GET", "/admin/keys").json["data"]
    assert 204 == admin("DELETE", f"/admin/keys/{key['id']}?last=1").status_code
    document = stored(newer, keys)

    assert document["revoked_at"] is not None
    assert NEWER.items() <= document.items()


def test_a_program_without_a_field_keeps_it(monkeypatch):
    """Of a document of today a program that lacks a field reads the rest, and writes all of it."""
    today = Model.compose({"id": "x", "description": "long", "permission": [{}, {}]}, now=0)
    text = write_model(today)
    with monkeypatch.context() as older:
        older.setitem(documents._KNOWN, Model, documents._KNOWN[Model] - {"description"})
        fields = [name for name in documents._MODEL_FIELDS if name != "description"]
        older.setattr(documents, "_MODEL_FIELDS", fields)
        read = read_model(text, 5)
        written = write_model(read)

    assert (None, {"description": "long"}) == (read.description, read.unknown_members)
    assert today == read_model(written, 5)
    assert json.loads(text) == json.loads(written)


def test_a_restore_keeps_what_a_newer_program_stored(newer, tmp_path):
    """A backup with it is restored, whole."""
    before = stored(newer), stored(newer, keys)
    newer.backup(tmp_path / "backup.db")
    newer.close()
    restored = Store(Settings(instance_path=tmp_path / "restored"), lambda: 0)
    restored.restore(tmp_path / "backup.db", actor=TEST)
    catalog = restored.load()

    assert before == (stored(restored), stored(restored, keys))
    assert [NEWER] == [model.unknown_members for model in catalog.models]
    assert all(isinstance(key, ApiKey) and key.unknown_members == NEWER for key in catalog.keys)
    restored.close()
