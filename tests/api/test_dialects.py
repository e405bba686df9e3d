"""The face of a dialect: another one is asked first, for everything but administration."""

from dataclasses import replace

import pytest

from app.catalog.snapshot import Window
from app.dialects import Dialect


class Plain(Dialect):
    """A made-up dialect under a path of its own: one line of text for each thing it says."""

    name = "plain"
    key_parameter = "key"

    def matches(self, path, headers, query):
        return "x-plain" in headers

    def window(self, query):
        return Window(limit=2, after=query.get("from"))

    def entry(self, model):
        return model.id.encode()

    def listing(self, entries, page, window):
        return b" ".join(entries) + (b" ..." if page.has_more else b"")

    def error(self, problem):
        return f"{problem.status} {problem.code}".encode()


@pytest.fixture
def ask(app, admin):
    """Return what asks in the made-up dialect."""
    for letter in "abc":
        admin.add(letter)
    services = app.extensions["roster"]
    app.extensions["roster"] = replace(services, dialects=(Plain(), *services.dialects))
    client = app.test_client()
    return lambda path, method="GET": client.open(path, method=method, headers={"X-Plain": ""})


def test_it_lists_pages_and_retrieves(ask):
    """Lists, pages and entries are said in the dialect that the request is written in."""
    assert ["a b ...", "c", "a"] == [
        ask(path).text for path in ("/v1/models", "/v1/models?from=b", "/v1/models/a")
    ]


def test_it_says_every_error(ask):
    """Errors are in the caller's dialect, also where no view is reached."""
    assert "404 model_not_found" == ask("/v1/models/z").text
    assert "404 unknown_url" == ask("/v1/nowhere").text
    assert "405 method_not_allowed" == ask("/v1/models", "POST").text


def test_its_key_may_be_in_the_query(ask, admin):
    """A dialect whose clients send the key as a parameter gets it read there."""
    assert "401 invalid_api_key" == ask("/v1/models?key=wrong").text
    assert 200 == ask(f"/v1/models?key={admin.key}").status_code
    assert 200 == ask("/v1/models?key=").status_code


def test_administration_and_operation_stay_as_they_are(ask):
    """Beyond the public routes everything is said in OpenAI's dialect."""
    assert "missing_api_key" == ask("/admin/models").json["error"]["code"]
    assert "method_not_allowed" == ask("/healthz", "POST").json["error"]["code"]


def test_the_dialects_do_not_share_bodies(ask, client):
    """The same list in two dialects has two bodies and two tags."""
    plain, openai = ask("/v1/models?"), client.get("/v1/models")

    assert plain.data != openai.data
    assert plain.headers["ETag"] != openai.headers["ETag"]
