"""One more dialect is one file and one entry: the face gives it everything else."""

import json

import pytest

import app as factory
from app import create_app
from app.catalog.snapshot import Window
from app.dialects import Dialect, Dialects, Routes
from app.settings import Settings


class Plain(Dialect):
    """A made-up dialect under a path of its own: one line of text for each thing it says."""

    name = "plain"
    routes = Routes(
        prefix="/plain/",
        listing="/plain/list",
        entry="/plain/one/",
        lookup="/plain/find",
        lookup_fields=("id",),
        constants={"/plain/version": b"plain 1"},
    )
    headers = ("X-Plain",)
    key_parameter = "plain_key"

    def window(self, query):
        return Window(limit=2, after=query.get("from"))

    def entry(self, model):
        return f"{model.id} {model.description or ''}".strip().encode()

    def item(self, model):
        return model.id.encode()

    def listing(self, items, page, window):
        return b" ".join(items) + (b" ..." if page.has_more else b"")

    def error(self, problem):
        return f"{problem.status} {problem.code}".encode()


@pytest.fixture
def plain_app(monkeypatch, tmp_path, clock, sign_in):
    """An application with the made-up dialect in the factory's list, and nothing else edited."""
    others = factory.dialects_of

    def dialects_of(settings):
        return Dialects(Plain(), *others(settings))

    monkeypatch.setattr(factory, "dialects_of", dialects_of)
    settings = Settings(instance_path=tmp_path, cors_origins=("*",))
    app = create_app(settings, clock)
    admin = sign_in(app)
    for letter in "abc":
        admin.add(letter)
    admin.add("d/e f", permission=[])
    app.config["key"] = admin.key
    return app


@pytest.fixture
def ask(plain_app):
    return plain_app.test_client().open


def test_it_lists_pages_and_retrieves(ask):
    """Lists, pages and entries are said in the dialect under its own paths."""
    assert ["a b ...", "c", "a", "a", "plain 1"] == [
        ask(path).text
        for path in (
            "/plain/list",
            "/plain/list?from=b",
            "/plain/one/a",
            "/plain/one/a?unknown=1",
            "/plain/version",
        )
    ]
    assert "b" == ask("/plain/find", method="POST", data='{"id":"b"}').text


def test_a_header_of_its_own_selects_it(ask):
    """On the shared paths its header does what the path does elsewhere, and is in Vary."""
    answer = ask("/v1/models", headers={"X-Plain": ""})

    assert "a b ..." == answer.text
    assert "X-Plain" in answer.headers["Vary"].split(", ")
    assert "list" == ask("/v1/models").json["object"]


def test_it_says_every_error(ask):
    """Errors are in the caller's dialect, also where no view is reached."""
    for path, method, data, said in (
        ("/plain/one/z", "GET", None, "404 model_not_found"),
        ("/plain/one/d/e%20f", "GET", None, "404 model_not_found"),
        ("/plain/nowhere", "GET", None, "404 unknown_url"),
        ("/plain/list", "POST", None, "405 method_not_allowed"),
        ("/plain/find", "GET", None, "405 method_not_allowed"),
        ("/plain/find", "POST", "{}", "400 invalid_value"),
        ("/plain/find", "POST", '{"id":1}', "400 invalid_value"),
        ("/plain/find", "POST", "x", "400 invalid_json"),
        ("/plain/find", "POST", "x" * 65537, "413 request_too_large"),
        ("/plain/find", "POST", '{"id":"z"}', "404 model_not_found"),
    ):
        assert said == ask(path, method=method, data=data).text, path


def test_its_key_may_be_in_the_query(ask, plain_app):
    """A dialect whose clients send the key as a parameter gets it read there."""
    assert "401 invalid_api_key" == ask("/v1/models?plain_key=wrong").text
    assert "a b ..." == ask(f"/v1/models?plain_key={plain_app.config['key']}").text
    assert "a b ..." == ask("/plain/list?plain_key=").text


def test_it_has_tags_304_and_gzip(ask, plain_app):
    """What stands ready for the others stands ready for it."""
    Plain.entry, kept = lambda *_: b"x" * 4000, Plain.entry
    try:
        packed = ask("/plain/one/c", headers={"Accept-Encoding": "gzip"})
    finally:
        Plain.entry = kept
    answer = ask("/plain/list")
    again = ask("/plain/list", headers={"If-None-Match": answer.headers["ETag"]})

    assert ("gzip", 200) == (packed.headers["Content-Encoding"], packed.status_code)
    assert (304, b"") == (again.status_code, again.data)
    assert b"" == ask("/plain/list", method="HEAD").data


def test_a_page_on_another_origin_may_ask(ask):
    """OPTIONS says what each of its routes allows."""
    allowed = [
        ask(path, method="OPTIONS").headers["Access-Control-Allow-Methods"]
        for path in ("/plain/list", "/plain/one/a", "/plain/find", "/plain/version")
    ]

    assert ["GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS", "OPTIONS, POST"] == allowed[:3]
    assert "GET, HEAD, OPTIONS" == allowed[3]


def test_administration_and_operation_stay_as_they_are(ask):
    """Beyond the public routes everything is said in OpenAI's dialect."""
    headers = {"X-Plain": ""}

    assert "missing_api_key" == ask("/admin/models", headers=headers).json["error"]["code"]
    unknown = ask("/healthz", method="POST", headers=headers)
    assert "method_not_allowed" == unknown.json["error"]["code"]


def test_the_dialects_do_not_share_bodies(ask):
    """The same list in two dialects has two bodies and two tags."""
    plain, openai = ask("/plain/list"), ask("/v1/models")

    assert plain.data != openai.data
    assert plain.headers["ETag"] != openai.headers["ETag"]


def test_its_name_is_in_the_access_line(ask, capfd):
    """The log says which dialect was spoken."""
    ask("/plain/one/a")
    [*_, line] = capfd.readouterr().out.splitlines()

    assert ("plain", "/plain/one/<path:model_id>") == (
        json.loads(line)["dialect"],
        json.loads(line)["route"],
    )
