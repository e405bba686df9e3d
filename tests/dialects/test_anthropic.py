"""Anthropic's bodies, whole, after https://platform.claude.com/docs/en/api/models/list."""

import pytest

from app.dialects.anthropic import Anthropic
from tests.dialects.promises import Promises, Walks

VERSION = {"anthropic-version": "2023-06-01"}

SEER = {
    "type": "model",
    "id": "acme/seer:8b",
    "display_name": "Seer",
    "created_at": "2021-07-20T10:40:00Z",
    "lifecycle": "active",
    "line": None,
    "deprecated_at": "2027-06-01T02:00:00+02:00",
    "retires_at": "2028-01-31T00:00:00Z",
    "capabilities": None,
    "max_input_tokens": 272000,
    "max_tokens": 128000,
}
UNKNOWN = dict.fromkeys(SEER) | {"type": "model", "lifecycle": "active"}
EMBED = UNKNOWN | {"id": "embed", "display_name": "embed", "created_at": "1970-01-01T00:00:00Z"}
X = UNKNOWN | {"id": "x", "display_name": "x", "created_at": "2021-07-20T10:40:00Z"}


@pytest.fixture
def get(client):
    return lambda path: client.get(path, headers=VERSION)


def test_the_list(get, catalogue, compact):
    """Everything that is known is listed under the vendor's names, and the rest is null."""
    expected = {
        "data": [SEER, EMBED, X],
        "has_more": False,
        "first_id": "acme/seer:8b",
        "last_id": "x",
    }

    assert compact(expected) == get("/v1/models").data


def test_the_empty_list(get, admin, compact):
    """Without entries the ends are null and has_more is false."""
    expected = {"data": [], "has_more": False, "first_id": None, "last_id": None}

    assert compact(expected) == get("/v1/models").data


@pytest.mark.parametrize(
    ("path", "expected"),
    [("acme/seer:8b", SEER), ("acme%2Fseer%3A8b", SEER), ("claude-seer", SEER), ("x", X)],
)
def test_one_model(get, catalogue, compact, path, expected):
    """Retrieval answers the bare item, by an alias too."""
    assert compact(expected) == get(f"/v1/models/{path}").data


def test_a_model_becomes_deprecated_at_its_moment(get, catalogue, clock):
    """In list and retrieval the lifecycle changes at the date, without a write."""

    def lifecycles():
        listed, one = get("/v1/models"), get("/v1/models/acme/seer:8b")
        assert listed.json["data"][0] == one.json
        return one.json["lifecycle"], listed.headers["ETag"], one.headers["ETag"]

    clock.now = 1811808000 - 1  # 2027-06-01T00:00:00Z, less a second
    before = lifecycles()
    clock.now += 1
    after = lifecycles()

    assert ("active", "deprecated") == (before[0], after[0])
    assert {*before}.isdisjoint(after)


@pytest.mark.parametrize(
    ("status", "facts", "error"),
    [
        (400, {"code": "invalid_value"}, "invalid_request_error"),
        (401, {"code": "missing_api_key"}, "authentication_error"),
        (401, {"code": "invalid_api_key"}, "authentication_error: invalid x-api-key"),
        (
            401,
            {"code": "invalid_api_key", "hint": "X has a comma."},
            "authentication_error: invalid x-api-key. X has a comma.",
        ),
        (403, {"code": "insufficient_permissions"}, "permission_error"),
        (404, {"code": "unknown_url"}, "not_found_error"),
        (404, {"model_id": "x"}, "not_found_error: model: x"),
        (
            404,
            {"model_id": "x", "replacement": "y"},
            "not_found_error: model: x: it was retired, use 'y' instead",
        ),
        (405, {"code": "method_not_allowed"}, "invalid_request_error"),
        (413, {"code": "request_too_large"}, "invalid_request_error"),
        (415, {"code": "unsupported_media_type"}, "invalid_request_error"),
        (422, {"code": "validation_error"}, "invalid_request_error"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limit_error"),
        (500, {}, "api_error"),
        (503, {"code": "unavailable"}, "overloaded_error"),
    ],
)
def test_each_error(problem, compact, status, facts, error):
    """Errors are those of https://platform.claude.com/docs/en/api/errors."""
    type_, _, message = error.partition(": ")
    expected = {
        "type": "error",
        "error": {"type": type_, "message": message or "Our sentence."},
        "request_id": "req_1",
    }

    assert compact(expected) == Anthropic().error(problem(status, **facts))


def test_the_request_id_is_the_headers(get, admin):
    """The id in an error is the one of the answer's header."""
    answer = get("/v1/models/z")

    assert answer.headers["request-id"] == answer.json["request_id"]


def ids(answer):
    return [model["id"] for model in answer.json["data"]]


def test_pages_walk_forwards_and_backwards(get, admin):
    """after_id goes on behind an id, before_id ends just before one, both in list order."""
    for letter in "abcde":
        admin.add(letter)
    pages = {
        "limit=2": (["a", "b"], True),
        "limit=2&after_id=b": (["c", "d"], True),
        "limit=2&after_id=d": (["e"], False),
        "after_id=bb": (["c", "d", "e"], False),
        "limit=2&before_id=e": (["c", "d"], True),
        "limit=2&before_id=c": (["a", "b"], False),
        "limit=2&before_id=b": (["a"], False),
        "limit=2&before_id=dd": (["c", "d"], True),
        "limit=2&before_id=a": ([], False),
        "before_id=c": (["a", "b"], False),
    }

    for query, expected in pages.items():
        page = get(f"/v1/models?{query}")
        assert expected == (ids(page), page.json["has_more"]), query


def test_a_page_has_a_thousand_entries(app):
    """Without limit a page has 1,000 entries: several clients read page 1 only."""
    window = Anthropic().window({})

    assert (1000, None) == (window.limit, window.after)
    assert window == Anthropic().window({"limit": "1000", "unknown": "1"})


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "after_id=", "before_id=a//b", "after_id=a&before_id=b"],
)
def test_what_makes_no_page_is_a_400(get, admin, query):
    """A limit out of range, a cursor that is no id and two cursors are refused."""
    answer = get(f"/v1/models?{query}")

    assert (400, "invalid_request_error") == (answer.status_code, answer.json["error"]["type"])


@pytest.mark.parametrize("version", ["2023-06-01", "", "anything"])
def test_the_header_selects_it_whatever_its_value(client, admin, version):
    """That the header is there decides, also over Gemini's headers."""
    headers = {"anthropic-version": version, "x-goog-api-client": "x"}

    assert "has_more" in client.get("/v1/models", headers=headers).json


class TestPromises(Promises):
    dialect = Anthropic()
    headers = VERSION

    def ids(self, listing):
        return [model["id"] for model in listing["data"]]

    def first(self, size):
        return {"limit": str(size)}

    def following(self, query, listing):
        return {**query, "after_id": listing["last_id"]} if listing["has_more"] else None

    def message(self, error):
        assert ["type", "error", "request_id"] == list(error)
        assert ["type", "message"] == list(error["error"])
        return error["error"]["message"]


class TestBackwards(Walks):
    """A walk with before_id, from behind the last id."""

    dialect = Anthropic()
    backwards = True

    def ids(self, listing):
        return [model["id"] for model in listing["data"]]

    def first(self, size):
        return {"limit": str(size), "before_id": "~" * 256}

    def following(self, query, listing):
        return {**query, "before_id": listing["first_id"]} if listing["has_more"] else None
