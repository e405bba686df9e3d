"""One more dialect is one file and one entry: the face gives it everything else.

`MadeUp` is what the file of a fifth dialect would be, and `made_up` adds the entry. Nothing else
knows of it, and all that the others promise it keeps too.
"""

import json

import pytest

import app as factory
from app.api.context import request
from app.catalog.paging import Window
from app.dialects import Dialect, Dialects, Routes
from app.dialects.encoding import join_items
from app.dialects.parameters import read_id, read_limit
from tests.dialects.promises import Promises


class MadeUp(Dialect):
    """The dialect of a vendor that there is not: a list of names, and one name."""

    name = "made-up"
    routes = Routes(
        prefix="/made-up/",
        listing="/made-up/list",
        entry="/made-up/list/",
        lookup="/made-up/find",
        lookup_fields=("id",),
        constants={"/made-up/version": b'"1"'},
    )
    headers = ("X-Made-Up",)
    key_parameter = "made_up_key"

    def window(self, query):
        return Window(limit=read_limit("size", query) or 1000, after=read_id("from", query))

    def entry(self, model):
        return json.dumps({"name": model.id, "at": model.created}).encode()

    def listing(self, items, page, window):
        return join_items(
            b'{"more":%s,"names":[' % str(page.has_more).lower().encode(), items, b"]}"
        )

    def error(self, problem):
        return json.dumps({"wrong": problem.advise(problem.message)}).encode()


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """The entry in the factory's list."""
    others = factory.dialects_of
    monkeypatch.setattr(factory, "dialects_of", lambda given: Dialects(MadeUp(), *others(given)))


class TestPromises(Promises):
    dialect = MadeUp()
    path = "/made-up/list"
    nowhere = "/made-up/nowhere"

    def ids(self, listing):
        return [item["name"] for item in listing["names"]]

    def first(self, size):
        return {"size": str(size)}

    def following(self, query, listing):
        return {**query, "from": self.ids(listing)[-1]} if listing["more"] else None

    def message(self, error):
        assert ["wrong"] == list(error)
        return error["wrong"]


def test_its_header_selects_it_on_the_shared_paths(client, admin):
    """Where it has no path of its own its header says it, whatever the value, and only that."""
    admin.add("a")
    answers = [
        client.get("/v1/models/a", headers=headers).json for headers in ({"X-Made-Up": ""}, {})
    ]

    assert ["at", "created"] == [({"at", "created"} & {*answer}).pop() for answer in answers]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"id":"a"}', 200),
        (b'{"id":"z"}', 404),
        (b"{}", 400),
        (b'{"id":1}', 400),
        (b"a", 400),
        (b"x" * 65537, 413),
    ],
)
def test_its_body_may_name_the_model(client, admin, body, status):
    """What is looked up is answered like a retrieval, and refused in its own words."""
    admin.add("a")
    answer = client.post("/made-up/find", data=body)

    assert status == answer.status_code
    assert ["name", "at"] == list(answer.json) if status == 200 else ["wrong"] == list(answer.json)


def test_its_constants_have_a_tag(client, admin):
    """A constant has a tag and a 304."""
    answer = client.get("/made-up/version")
    again = client.get("/made-up/version", headers={"If-None-Match": answer.headers["ETag"]})

    assert ('"1"', 304) == (answer.text, again.status_code)


def test_its_key_may_be_in_the_query(client, admin):
    """The parameter that may hold the key selects the dialect, and its key is read."""
    admin.add("a")

    assert ["wrong"] == list(client.get("/v1/models?made_up_key=wrong").json)
    assert "names" in client.get(f"/v1/models?made_up_key={admin.key}").json
    assert "names" in client.get("/v1/models?made_up_key=").json
    assert 200 == client.get("/made-up/list?made_up_key=").status_code


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/made-up/list", "GET, HEAD, OPTIONS"),
        ("/made-up/list/a/b", "GET, HEAD, OPTIONS"),
        ("/made-up/find", "OPTIONS, POST"),
        ("/made-up/version", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_say_what_its_routes_allow(client, admin, path, methods):
    """Each of its routes answers a web page that asks what it may."""
    answer = client.options(path)

    assert (204, methods) == (answer.status_code, answer.headers["Allow"])


@pytest.mark.parametrize("path", ["/admin/models", "/admin/nowhere", "/healthz"])
def test_administration_and_operation_stay_as_they_are(client, path):
    """Beyond the public routes everything is in OpenAI's dialect."""
    headers = {"X-Made-Up": "", "anthropic-version": "x", "x-goog-api-client": "x"}

    assert "code" in client.post(path, headers=headers).json["error"]


def test_its_name_is_in_the_access_line(client, access_lines):
    """The log says which dialect was spoken, and by which route."""
    client.get("/made-up/list/a")

    assert [("made-up", "/made-up/list/<path:model_id>")] == [
        (line["dialect"], line["route"]) for line in access_lines()
    ]


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/v1beta/models", {"anthropic-version": "x"}, "gemini"),
        ("/v1beta/", {}, "gemini"),
        ("/api/tags", {"anthropic-version": "x", "x-goog-api-key": "x"}, "ollama"),
        ("/v1/models", {"anthropic-version": "x", "x-goog-api-key": "x"}, "anthropic"),
        ("/v1/models", {"x-goog-api-key": "x"}, "gemini"),
        ("/v1/models?key=x", {}, "gemini"),
        ("/v1/models?key=x", {"Authorization": "Bearer x"}, "openai"),
        ("/v1/models?key=x", {"anthropic-version": ""}, "anthropic"),
        ("/v1/models", {"x-api-key": "x"}, "openai"),
        ("/v1beta", {}, "openai"),
        ("/apis/x", {}, "openai"),
    ],
)
def test_the_path_goes_before_the_headers(app, path, headers, name):
    """A request's dialect is that of its path, else of the first header that says one."""
    with app.test_request_context(path, headers=headers):
        assert name == request.context.dialect.name
