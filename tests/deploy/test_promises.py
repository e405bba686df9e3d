"""The promises over real HTTP, directly and through nginx: what must not depend on the way.

That is addresses, headers, encodings, errors, order, conditions; what a promise needs the inside
of the application for, or its clock, is shown once, in ``tests/dialects``. What the database could
change, ids, conditions and order, is shown on SQLite and on PostgreSQL.
"""

import gzip
import json
import time
from importlib import import_module
from urllib.parse import quote

import pytest

from app import dialects_of
from app.settings import Settings

PATIENCE = 30.0  # seconds

pytestmark = pytest.mark.needs("nginx", "nginx")
BOTH = pytest.mark.parametrize(
    "host",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("initdb", "postgresql"))],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def host(request, run_gunicorn):
    """The folder of a gunicorn, on SQLite unless a test is marked with `BOTH`."""
    database = None
    if getattr(request, "param", "sqlite") == "postgresql":
        cluster, template = map(request.getfixturevalue, ("cluster", "template"))
        database = cluster.url(cluster.create(template))
    with run_gunicorn(database) as folder:
        yield folder


@pytest.fixture(params=["direct", "nginx"])
def site(request, host, at_socket):
    """A way to the application, whose catalogue is empty."""
    way = at_socket(host / "s")
    if request.param == "nginx":
        way = request.getfixturevalue("nginx")(host / "s")
    way.admin_key = (host / "admin-key").read_text().strip()
    for entry in way.admin("GET", "/admin/models").json["data"]:
        assert 204 == way.admin("DELETE", f"/admin/models/{quote(entry['id'])}").status
    return way


class Seen:
    """An answer under the names of Flask's test client."""

    def __init__(self, answer):
        self.status_code, self.headers, self.data = answer.status, answer.headers, answer.body

    @property
    def text(self):
        return self.data.decode()

    @property
    def json(self):
        return json.loads(self.data)


@pytest.fixture
def client(site):
    """A client without a key, under the names of Flask's."""

    class Client:
        def open(self, path, *, method, headers, json=None):
            return Seen(site(method, path, json, **headers))

    return Client()


@pytest.fixture
def admin(site):
    """What adds entries and keys."""

    class Admin:
        def add(self, model_id, **fields):
            added = site.admin("POST", "/admin/models", {"id": model_id, **fields})
            assert 201 == added.status, added.body

        def new_key(self, **fields):
            return site.admin("POST", "/admin/keys", {"name": "test", **fields}).json["key"]

    return Admin()


class OverHttp:
    """Leaves out what needs an application in this process, or none at all."""

    test_a_walk_neither_skips_nor_repeats = None
    test_an_undisturbed_walk_has_full_pages = None
    test_no_tag_is_shared_with_another_dialect = None
    test_what_fails_inside_is_in_the_callers_shape = None

    def test_gzip_is_sent_to_those_who_take_it(self, ask, admin):
        """A long list goes gzip-encoded under a tag of its own.

        The tests share a server, and it compresses a list that changes only once a second.
        """
        for number in range(40):
            admin.add(f"model-{number}")
        plain = ask(self.path)
        deadline = time.monotonic() + PATIENCE
        while (
            "Content-Encoding"
            not in (packed := ask(self.path, headers={"Accept-Encoding": "gzip"})).headers
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)

        assert "gzip" == packed.headers["Content-Encoding"]
        assert plain.data == gzip.decompress(packed.data)
        assert plain.headers["ETag"] != packed.headers["ETag"]


for _dialect in dialects_of(Settings()):
    _name = f"Test{type(_dialect).__name__}"
    _promises = import_module(f"tests.dialects.test_{_dialect.name}").TestPromises
    globals()[_name] = type(_name, (OverHttp, _promises), {})


@BOTH
@pytest.mark.parametrize("spelt", ["acme%2Fcoder%3A8b%20(x)", "acme/coder:8b%20(x)"])
def test_an_id_is_taken_in_both_spellings(site, spelt):
    """A slash, a colon and a space, raw or escaped, are one id to readers and administrators."""
    model_id = "acme/coder:8b (x)"
    added = site.admin("PUT", f"/admin/models/{spelt}", {})

    assert (201, model_id) == (added.status, added.json["id"])
    for path in ("/v1/models", "/v1beta/models", "/admin/models"):
        answer = site.admin("GET", f"{path}/{spelt}")
        assert 200 == answer.status
        assert model_id.encode() in answer.body
    assert 204 == site.admin("DELETE", f"/admin/models/{spelt}").status
    assert 404 == site("GET", f"/v1/models/{spelt}").status


@BOTH
def test_a_write_keeps_its_conditions(site):
    """A tag is good for one change; what is stale changes nothing, and what is there stays."""
    path = "/admin/models/x"
    made = site.admin("PUT", path, {"name": "1"}, If_None_Match="*")
    first = made.headers["ETag"]
    changed = site.admin("PATCH", path, {"name": "2"}, If_Match=first)
    last = changed.headers["ETag"]
    refused = [
        site.admin("PATCH", path, {"name": "3"}, If_Match=first),
        site.admin("PUT", path, {"name": "3"}, If_None_Match="*"),
        site.admin("DELETE", path, If_Match=first),
    ]
    kept = site.admin("GET", path)

    assert [201, 200] == [made.status, changed.status]
    assert [(412, "revision_mismatch")] * 3 == [
        (answer.status, answer.json["error"]["code"]) for answer in refused
    ]
    assert ("2", last) == (kept.json["name"], kept.headers["ETag"])
    assert 204 == site.admin("DELETE", path, If_Match=last).status
    assert 404 == site.admin("PATCH", path, {"name": "4"}, If_Match=last).status


@BOTH
def test_pages_of_the_administration_are_in_order_of_code_points(site):
    """Capitals before small letters, signs between, on each page as on the whole list."""
    ids = ["-a", "A", "Z", "_", "a", "a/B", "a/b", "b", "~"]
    for model_id in ids[::-1]:
        site.admin("POST", "/admin/models", {"id": model_id})
    walked, after = [], ""
    while page := site.admin("GET", f"/admin/models?limit=2{after}").json["data"]:
        walked += [entry["id"] for entry in page]
        after = f"&after={quote(walked[-1], safe='')}"

    assert ids == walked
