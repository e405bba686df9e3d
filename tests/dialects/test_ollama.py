"""Ollama's bodies, whole, after https://github.com/ollama/ollama/blob/main/docs/api.md."""

import hashlib
import json

import pytest

from app import create_app
from app.dialects.ollama import Ollama
from app.settings import Settings
from tests.dialects.promises import Promises

DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "library",
    "families": ["library"],
    "parameter_size": "",
    "quantization_level": "",
}
BORN = "2021-07-20T10:40:00Z"


def tag(model_id, modified_at, capabilities, **details):
    return {
        "name": model_id,
        "model": model_id,
        "modified_at": modified_at,
        "size": 0,
        "digest": hashlib.sha256(model_id.encode()).hexdigest(),
        "details": {**DETAILS, **details},
        "capabilities": capabilities,
    }


def shown(modified_at, capabilities, details, **model_info):
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": {**DETAILS, **details},
        "model_info": {"general.architecture": "library", **model_info},
        "capabilities": capabilities,
        "modified_at": modified_at,
    }


CAN = ["completion", "vision", "tools", "thinking"]
LENGTH = {"context_length": 400000}
SEER = shown(BORN, CAN, LENGTH, **{"library.context_length": 400000})
EMBED = shown("1970-01-01T00:00:00Z", ["embedding"], {})
X = shown(BORN, ["completion"], {})


def test_the_list(client, catalogue, compact):
    """A tag says what its clients need to know a model again."""
    tags = [
        tag("acme/seer:8b", BORN, CAN, **LENGTH),
        tag("embed", "1970-01-01T00:00:00Z", ["embedding"]),
        tag("x", BORN, ["completion"]),
    ]

    assert compact({"models": tags}) == client.get("/api/tags").data


def test_the_empty_list(client, admin, compact):
    """Without entries models is a list all the same."""
    assert compact({"models": []}) == client.get("/api/tags").data


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "acme/seer:8b"}, SEER),
        ({"name": "acme/seer:8b", "verbose": True}, SEER),
        ({"model": "claude-seer"}, SEER),
        ({"model": "embed", "name": "x"}, EMBED),
        ({"model": "", "name": "x"}, X),
        ({"model": None, "name": "x"}, X),
        ({"model": "x:latest"}, X),
        ({"model": "acme/seer:8b:latest"}, SEER),
        ({"name": "claude-seer:latest"}, SEER),
    ],
)
def test_one_model(client, catalogue, compact, body, expected):
    """show takes model or name, whatever the Content-Type."""
    for content_type in (None, "application/json", "text/plain", "nonsense"):
        answer = client.post("/api/show", data=json.dumps(body), content_type=content_type)

        assert compact(expected) == answer.data
        assert "application/json" == answer.headers["Content-Type"]


def test_latest_is_dropped_where_no_model_has_that_name(client, admin):
    """An entry or alias of the very name comes first; a hidden one is as one that is not there."""

    def length(name):
        answer = client.post("/api/show", json={"model": name}).json
        return answer.get("error") or answer["model_info"]["library.context_length"]

    for number, name in enumerate(("a", "a:latest", "b", "c", "d", "d:latest", "e:8b"), 1):
        admin.add(name, context_length=number, permission=[{}] if name != "d:latest" else [])
    admin("PATCH", "/admin/models/c", {"aliases": ["b:latest"]})
    names = ("a:latest", "b:latest", "c:latest", "d:latest", "e:8b:latest")

    assert [2, 4, 4, 5, 7] == [length(name) for name in names]
    for name in ("e", "e:8B", "c:8b", "c:Latest", "c:latest:latest", ":latest", "unknown:latest"):
        assert f"model '{name}' not found" == length(name)


def test_latest_of_a_retired_model_names_the_replacement(client, admin):
    """Whether the retired entry has the tag in its id or not."""
    for name, more in (("a", {}), ("b", {}), ("b:latest", {"context_length": 1})):
        retired = {"shutdown_date": "2020-01-01", "deprecation_replacement_model": "new"}
        admin.add(name, **(retired | more if name != "b" else {}))
    admin.add("new")
    for name in ("a:latest", "b:latest"):
        answer = client.post("/api/show", json={"model": name}).json

        expected = f"model '{name}' not found: it was retired, use 'new' instead"
        assert {"error": expected} == answer


def test_the_tag_is_dropped_in_a_preview_too(client, admin):
    """In the dialect of Ollama alone, as for its readers."""
    admin.add("x")
    ollama, openai = (
        admin("GET", f"/admin/preview?model=x:latest&dialect={name}")
        for name in ("ollama", "openai")
    )

    assert client.post("/api/show", json={"model": "x:latest"}).data == ollama.data
    assert client.get("/v1/models/x:latest").data == openai.data
    assert 404 == openai.status_code


def test_nothing_runs_here(client, admin, compact):
    """The list of running models is empty, with the headers and the tag of a list."""
    admin.add("x")
    tags, answer = client.get("/api/tags"), client.get("/api/ps")
    again = client.get("/api/ps", headers={"If-None-Match": answer.headers["ETag"]})

    assert (200, compact({"models": []})) == (answer.status_code, answer.data)
    assert sorted(name for name, _ in tags.headers) == sorted(name for name, _ in answer.headers)
    assert (304, b"") == (again.status_code, again.data)


def test_show_has_no_tag(client, catalogue):
    """What POST answers is no resource of its own: it has no ETag, and no 304."""
    body = {"model": "x"}
    answer = client.post("/api/show", json=body, headers={"If-None-Match": "*"})

    assert 200 == answer.status_code
    assert "ETag" not in answer.headers
    assert "public, no-cache" == answer.headers["Cache-Control"]
    assert "ETag" in client.get("/api/tags").headers


def test_the_version(client, admin, compact):
    """The version is that of an Ollama that has these routes; it is cached like a list."""
    answer = client.get("/api/version")
    again = client.get("/api/version", headers={"If-None-Match": answer.headers["ETag"]})

    assert compact({"version": "0.12.0"}) == answer.data
    assert (304, b"") == (again.status_code, again.data)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b"{}", "'model' must be the id of a model."),
        (400, b'{"model":5}', "'model' must be the id of a model."),
        (400, b'{"model":["x"]}', "'model' must be the id of a model."),
        (400, b"[]", "The text must be a JSON object, not an array."),
        (400, b'{"model":"x","model":"y"}', "The key 'model' appears twice in one object."),
        (404, b'{"model":"z"}', "model 'z' not found"),
        (400, b'{"model":NaN}', "NaN is not JSON."),
        (404, b'{"model":"\\ud800"}', "model '\N{REPLACEMENT CHARACTER}' not found"),
        (404, '{"model":"ü?"}'.encode(), "model 'ü?' not found"),
        (404, b'{"model":"' + b"z" * 99 + b'"}', f"model '{'z' * 59}…' not found"),
        (413, b" " * 65537, "The body is longer than 4096 bytes."),
    ],
)
def test_what_show_refuses(client, catalogue, status, body, error):
    """A body that names no model is a 400, a model that is not there a 404."""
    answer = client.post("/api/show", data=body)

    assert (status, {"error": error}) == (answer.status_code, answer.json)


def test_an_encoded_body_is_a_415(client, admin):
    """A body is read as it is."""
    answer = client.post("/api/show", data=b"{}", headers={"Content-Encoding": "gzip"})

    assert 415 == answer.status_code
    assert {"error": "Send the body as it is, without a Content-Encoding."} == answer.json


def test_an_empty_body_is_a_400(client, admin):
    """A show without a body is refused as what it is, an empty text."""
    answer = client.post("/api/show")

    assert 400 == answer.status_code
    assert answer.json["error"].startswith("The text is empty")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/tags", "GET, HEAD, OPTIONS"),
        ("/api/show", "OPTIONS, POST"),
        ("/api/version", "GET, HEAD, OPTIONS"),
        ("/api/ps", "GET, HEAD, OPTIONS"),
    ],
)
def test_each_route_has_its_methods(client, admin, path, methods):
    """OPTIONS and a 405 say which methods a route has."""
    refused = client.open(path, method="DELETE")

    assert (204, methods) == (
        client.options(path).status_code,
        client.options(path).headers["Allow"],
    )
    assert {*methods.split(", ")} == {*refused.headers["Allow"].split(", ")}
    assert (405, {"error": "DELETE is not allowed here."}) == (refused.status_code, refused.json)


@pytest.fixture
def start(tmp_path, clock, sign_in):
    """What makes a client, and an administrator, of an application with such settings."""

    def make(**settings):
        app = create_app(Settings(instance_path=tmp_path, **settings), clock)
        return app.test_client(), sign_in(app)

    return make


def statuses(client, headers):
    return [
        client.get("/v1/models", headers=headers).status_code,
        client.get("/api/tags", headers=headers).status_code,
        client.post("/api/show", json={"model": "x"}, headers=headers).status_code,
        client.get("/api/version", headers=headers).status_code,
        client.get("/api/ps", headers=headers).status_code,
        client.get("/api/nowhere", headers=headers).status_code,
    ]


@pytest.mark.parametrize(
    ("settings", "without", "wrong"),
    [
        ({}, [200, 200, 200, 200, 200, 404], [401] * 6),
        ({"auth": "required"}, [401, 401, 401, 200, 401, 404], [401] * 6),
        (
            {"auth": "required", "ollama_auth": "optional"},
            [401, 200, 200, 200, 200, 404],
            [401] * 6,
        ),
        ({"auth": "off"}, [200, 200, 200, 200, 200, 404], [200, 200, 200, 200, 200, 404]),
        (
            {"auth": "off", "ollama_auth": "optional"},
            [200, 200, 200, 200, 200, 404],
            [200, 200, 200, 200, 200, 404],
        ),
    ],
)
def test_keys_are_asked_for_as_the_settings_say(start, settings, without, wrong):
    """Only the version needs no key; ROSTER_OLLAMA_AUTH opens its dialect, off reads no key."""
    client, admin = start(**settings)
    admin.add("x")

    assert without == statuses(client, {})
    assert wrong == statuses(client, {"Authorization": "Bearer wrong"})
    assert [200, 200, 200, 200, 200, 404] == statuses(client, {"x-api-key": admin.key})


@pytest.mark.parametrize(
    ("status", "facts", "message"),
    [
        (404, {"model_id": "x"}, "model 'x' not found"),
        (
            404,
            {"model_id": "x", "replacement": "y"},
            "model 'x' not found: it was retired, use 'y' instead",
        ),
        *((status, {}, "Our sentence.") for status in (400, 401, 404, 405, 413, 429, 500, 503)),
    ],
)
def test_each_error(problem, compact, status, facts, message):
    """An error is a plain string, whatever its status."""
    assert compact({"error": message}) == Ollama(auth=None).error(problem(status, **facts))


class TestPromises(Promises):
    dialect = Ollama(auth=None)
    path = "/api/tags"
    nowhere = "/api/nowhere"

    def ids(self, listing):
        return [tag["name"] for tag in listing["models"]]

    def one(self, ask, model_id):
        return ask("/api/show", "POST", json={"model": model_id})

    def agree(self, item, entry):
        return all(item[name] == entry[name] for name in ("details", "modified_at"))

    def first(self, size):
        return {}

    def following(self, query, listing):
        return None

    def message(self, error):
        assert ["error"] == list(error)
        return error["error"]


def test_a_lookup_is_short(client, admin):
    """A body that asks for a model is 4 KiB at most: anyone may send one."""
    admin.add("x")
    body = '{"model":"x"}'
    answers = [
        client.post("/api/show", data=body.ljust(length)) for length in (4096, 4097, 64 * 1024)
    ]

    assert [200, 413, 413] == [answer.status_code for answer in answers]
