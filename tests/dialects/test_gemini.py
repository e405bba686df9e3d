"""Gemini's bodies, whole, after https://ai.google.dev/api/models."""

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import InvalidValue
from app.catalog.model import Model, problem_with_id
from app.catalog.paging import Page, Window
from app.dialects.gemini import Gemini
from tests.dialects.promises import Promises

SEER = {
    "name": "models/acme/seer:8b",
    "baseModelId": "acme/seer:8b",
    "version": "001",
    "displayName": "Seer",
    "description": "Sees things.",
    "supportedGenerationMethods": ["generateContent", "countTokens"],
    "inputTokenLimit": 272000,
    "outputTokenLimit": 128000,
    "thinking": True,
}
EMBED = {
    "name": "models/embed",
    "baseModelId": "embed",
    "version": "001",
    "displayName": "embed",
    "description": "",
    "supportedGenerationMethods": ["embedContent"],
}
X = {
    "name": "models/x",
    "baseModelId": "x",
    "version": "001",
    "displayName": "x",
    "description": "",
    "supportedGenerationMethods": ["generateContent", "countTokens"],
}


def test_the_list(client, catalogue, compact):
    """What is unknown is left out, and so is the token of the last page."""
    assert compact({"models": [SEER, EMBED, X]}) == client.get("/v1beta/models").data


def test_the_empty_list(client, admin, compact):
    """Without entries models is a list all the same."""
    assert compact({"models": []}) == client.get("/v1beta/models").data


@pytest.mark.parametrize(
    ("path", "expected"),
    [("acme/seer:8b", SEER), ("acme%2Fseer%3A8b", SEER), ("claude-seer", SEER), ("x", X)],
)
def test_one_model(client, catalogue, compact, path, expected):
    """Retrieval answers the bare item, by an alias too."""
    assert compact(expected) == client.get(f"/v1beta/models/{path}").data


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-goog-api-client": "google-genai-sdk/3.4.0"}, ""),
        ({"x-goog-api-client": ""}, ""),
        ({"x-goog-api-key": "KEY"}, ""),
        ({}, "?key=KEY"),
        ({"Authorization": ""}, "?key=KEY"),
    ],
)
def test_the_newest_clients_are_known_by_their_headers(client, admin, compact, headers, query):
    """At /v1/models, headers and key alone select the dialect of Google's clients."""
    admin.add("x")
    headers = {name: value.replace("KEY", admin.key) for name, value in headers.items()}
    answer = client.get("/v1/models" + query.replace("KEY", admin.key), headers=headers)

    assert compact({"models": [X]}) == answer.data


def test_a_key_parameter_beside_authorization_is_openais(client, admin):
    """A request with Authorization is not Google's, and its ?key= is nobody's."""
    headers = {"Authorization": f"Bearer {admin.key}"}

    assert "object" in client.get("/v1/models?key=other", headers=headers).json


def ids(answer):
    return [model["baseModelId"] for model in answer.json["models"]]


def test_pages_walk_the_list(client, admin):
    """A page has pageSize entries and a token, which goes on though its entry is gone."""
    for letter in "abcde":
        admin.add(letter)
    first = client.get("/v1beta/models?pageSize=2")
    admin("DELETE", "/admin/models/b")
    second = client.get(f"/v1beta/models?pageSize=2&pageToken={first.json['nextPageToken']}")
    third = client.get(f"/v1/models?key=&pageToken={second.json['nextPageToken']}")

    assert [["a", "b"], ["c", "d"], ["e"]] == [ids(first), ids(second), ids(third)]
    assert ["models"] == list(third.json)


@pytest.mark.parametrize(
    ("size", "limit"),
    [("0", 1000), ("1", 1), ("1000", 1000), ("1001", 1000), ("999999999", 1000), ("007", 7)],
)
def test_a_page_size_is_cut(size, limit):
    """0 is the default of 1,000 and more than that is cut."""
    assert limit == Gemini().window({"pageSize": size}).limit


def test_the_default_is_the_largest_page():
    """Without pageSize a page has 1,000 entries; an empty token is none."""
    assert Gemini().window({}) == Gemini().window({"pageSize": "1000", "pageToken": "", "x": "1"})


def token_of(model_id):
    """Return the token that a page has whose last entry has this id."""
    page = Page([Model.compose({"id": model_id}, now=0)], has_more=True)
    return json.loads(Gemini().listing([], page, Window()))["nextPageToken"]


GOOD = token_of("b")


@pytest.mark.parametrize("size", ["-1", "x", "", "1.5", "+1", "\N{FULLWIDTH DIGIT ONE}"])
def test_a_page_size_that_is_none_is_a_400(client, admin, size):
    """Negative and other page sizes are refused."""
    answer = client.get("/v1beta/models", query_string={"pageSize": size})

    assert (400, "INVALID_ARGUMENT") == (answer.status_code, answer.json["error"]["status"])


@pytest.mark.parametrize(
    "token",
    [
        "b",
        "x",
        "=",
        "%%%",
        GOOD[:-1],
        GOOD + "=",
        GOOD + "A",
        " " + GOOD,
        GOOD.swapcase(),
        "\N{SNOWMAN}",
        urlsafe_b64encode(b"models/b").decode(),
        urlsafe_b64encode(b"\0\0\0\0b").decode().rstrip("="),
        token_of("a//b"),
        "A" * 5000,
    ],
)
def test_a_token_of_others_is_a_400(client, admin, token):
    """A broken token, an id and the token of another server are refused."""
    answer = client.get("/v1beta/models", query_string={"pageToken": token})

    assert (400, "INVALID_ARGUMENT") == (answer.status_code, answer.json["error"]["status"])
    assert "pageToken" in answer.json["error"]["message"]


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=256)


@given(printable.filter(lambda text: problem_with_id(text) is None))
def test_every_id_has_a_token(model_id):
    """Whatever the id, its token is one for a URL, and is read back."""
    token = token_of(model_id)

    assert model_id == Gemini().window({"pageToken": token}).after
    assert {*token} <= {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"}


@given(st.text(min_size=1, max_size=40))
def test_anything_else_is_no_token(text):
    """No text that we did not make is read as a token, and none makes trouble."""
    with pytest.raises(InvalidValue):
        Gemini().window({"pageToken": text})


NOT_FOUND = "NOT_FOUND: models/x is not found for API version v1beta"


@pytest.mark.parametrize(
    ("status", "facts", "expected"),
    [
        (400, {"code": "invalid_value"}, "INVALID_ARGUMENT"),
        (401, {"code": "missing_api_key"}, "UNAUTHENTICATED"),
        (401, {"code": "invalid_api_key"}, "UNAUTHENTICATED"),
        (403, {"code": "insufficient_permissions"}, "PERMISSION_DENIED"),
        (404, {"code": "unknown_url"}, "NOT_FOUND"),
        (404, {"model_id": "x"}, NOT_FOUND),
        (
            404,
            {"model_id": "x", "replacement": "y"},
            f"{NOT_FOUND}: it was retired, use 'y' instead",
        ),
        (405, {"code": "method_not_allowed"}, "INVALID_ARGUMENT"),
        (413, {"code": "request_too_large"}, "INVALID_ARGUMENT"),
        (415, {"code": "unsupported_media_type"}, "INVALID_ARGUMENT"),
        (422, {"code": "validation_error"}, "INVALID_ARGUMENT"),
        (429, {"code": "rate_limit_exceeded"}, "RESOURCE_EXHAUSTED"),
        (500, {}, "INTERNAL"),
        (503, {"code": "unavailable"}, "UNAVAILABLE"),
    ],
)
def test_each_error(problem, compact, status, facts, expected):
    """Errors are Google's: code, message and status, as https://google.aip.dev/193 has them."""
    name, _, message = expected.partition(": ")
    error = {"code": status, "message": message or "Our sentence.", "status": name}

    assert compact({"error": error}) == Gemini().error(problem(status, **facts))


class TestPromises(Promises):
    dialect = Gemini()
    path = "/v1beta/models"
    nowhere = "/v1beta/nowhere"

    def ids(self, listing):
        return [model["name"].removeprefix("models/") for model in listing["models"]]

    def first(self, size):
        return {"pageSize": str(size)}

    def following(self, query, listing):
        token = listing.get("nextPageToken")
        return None if token is None else {**query, "pageToken": token}

    def message(self, error):
        assert ["error"] == list(error)
        assert ["code", "message", "status"] == list(error["error"])
        return error["error"]["message"]


class TestPromisesByHeader(TestPromises):
    """The same at the shared paths, where the newest clients ask."""

    headers = {"x-goog-api-client": "google-genai-sdk"}  # noqa: RUF012
    path = "/v1/models"
    nowhere = "/v1/nowhere"
