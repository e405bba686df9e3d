"""What administrators see of the list of others: /admin/preview."""

import pytest

from app import dialects_of
from app.settings import Settings
from tests.dialects.derived import address

DIALECTS = [*dialects_of(Settings())]
#: Organization and groups of readers.
READERS = [
    (None, []),
    ("acme", []),
    ("acme", ["sales"]),
    ("acme", ["sales", "research"]),
    ("other", ["research"]),
    (None, ["sales"]),
]
#: Seen by everyone, some, and nobody; a retired one with its successor; and an unknown one.
IDS = ("acme/all", "for-acme", "for/sales", "no-research", "hidden", "old", "later", "unknown")


@pytest.fixture
def stock(admin, clock):
    """Entries that differ by reader, in whole or in part."""
    acme, public = {"organization": "acme"}, {"organization": "*"}
    admin.add("acme/all", name="All", context_length=8192, root="for-acme")
    admin.add("for-acme", permission=[acme, {"organization": "other"}])
    admin.add("for/sales", permission=[{**acme, "group": "sales"}], parent="hidden")
    blocked = {"organization": "*", "group": "research", "is_blocking": True}
    admin.add("no-research", permission=[public, blocked])
    admin.add("hidden", permission=[])
    replacement = {"deprecation_replacement_model": "for-acme", "shutdown_date": "2027-01-01"}
    admin.add("old", **replacement)
    admin.add("later", available_from=int(clock()) + 60)


def of_reader(client, dialect, key, model_id):
    """Return what a reader gets in a dialect: the list or, with an id, one model."""
    path, selecting = address(dialect)
    headers = {**selecting, "X-Request-ID": "same", "x-api-key": key}
    routes = dialect.routes
    if model_id is None:
        return client.get(path, headers=headers)
    if routes is not None and routes.lookup is not None:
        return client.post(routes.lookup, json={"model": model_id}, headers=headers)
    return client.get(f"{path}/{model_id}", headers=headers)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_preview_is_what_the_reader_gets(client, admin, stock, dialect):
    """The list and each model, seen or not, have the bytes that a key of the reader gets."""
    seen = set()
    for organization, groups in READERS:
        key = admin.new_key(organization=organization, groups=groups)
        for model_id in (None, *IDS):
            asked = {
                "dialect": dialect.name,
                "organization": organization or "",
                "groups": ",".join(groups),
                "model": model_id or "",
            }
            expected = of_reader(client, dialect, key, model_id)
            query = "&".join(f"{name}={value}" for name, value in asked.items())
            answer = admin("GET", f"/admin/preview?{query}", X_Request_ID="same")
            seen.add((model_id, expected.status_code))

            assert expected.status_code == answer.status_code
            assert expected.data == answer.data
            assert "application/json" == answer.headers["Content-Type"]
            assert "no-store" == answer.headers["Cache-Control"]
            assert "ETag" not in answer.headers
    assert {("for-acme", 200), ("for-acme", 404), ("old", 404), (None, 200)} <= seen


def test_the_preview_is_that_of_the_public_in_openais_dialect(client, admin, stock):
    """Without parameters it is what a caller without a key gets."""
    assert client.get("/v1/models").data == admin("GET", "/admin/preview").data
    assert 405 == admin("POST", "/admin/preview", {}).status_code


def test_a_reader_may_have_several_groups(admin, stock):
    """Commas separate them; a parameter that is there twice is refused."""
    path = "/admin/preview?organization=acme"
    both = admin("GET", f"{path}&groups=sales,research")
    twice = admin("GET", f"{path}&groups=sales&groups=research")

    assert both.data == admin("GET", f"{path}&groups=research,,sales").data
    assert both.data != admin("GET", f"{path}&groups=sales").data
    assert (400, "groups") == (twice.status_code, twice.json["error"]["param"])
    assert "'groups' must be there once, not 2 times." == twice.json["error"]["message"]


def test_a_preview_joins_no_list_twice(app, client, admin, stock):
    """The reply of a reader is taken from the cache, compressed too."""
    key = admin.new_key(organization="acme")
    expected = client.get("/v1/models", headers={"x-api-key": key, "Accept-Encoding": "gzip"})
    replies = app.extensions["roster"].replies
    misses = replies.misses
    answer = admin("GET", "/admin/preview?organization=acme", Accept_Encoding="gzip")

    assert (misses, "gzip") == (replies.misses, answer.headers["Content-Encoding"])
    assert expected.data == answer.data


@pytest.mark.parametrize("name", ["unknown", "OpenAI", "x" * 100])
def test_an_unknown_dialect_is_a_400(admin, name):
    """The message has the names of all dialects."""
    answer = admin("GET", f"/admin/preview?dialect={name}")
    error = answer.json["error"]

    assert (400, "invalid_value", "dialect") == (
        answer.status_code,
        error["code"],
        error["param"],
    )
    for dialect in DIALECTS:
        assert dialect.name in error["message"]


def test_a_preview_is_for_administrators(client, admin):
    """It needs an admin key, and unknown parameters are refused."""
    reader = {"Authorization": f"Bearer {admin.new_key()}"}

    assert 401 == client.get("/admin/preview").status_code
    assert 403 == client.get("/admin/preview", headers=reader).status_code
    refused = admin("GET", "/admin/preview?group=x")
    assert (400, "group") == (refused.status_code, refused.json["error"]["param"])
