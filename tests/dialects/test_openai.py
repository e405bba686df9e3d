"""OpenAI's bodies, whole, after ``docs/list-models.md`` and OpenAI's own reference.

https://platform.openai.com/docs/api-reference/models and .../guides/error-codes
"""

import json

import pytest

from app.catalog.paging import Page
from app.dialects.openai import OpenAI
from tests.dialects.promises import Promises


def permission(given):
    return {
        "id": given["id"],
        "object": "model_permission",
        "created": given["created"],
        "allow_create_engine": True,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }


SEER = {
    "id": "acme/seer:8b",
    "object": "model",
    "created": 1626777600,
    "owned_by": "acme",
    "permission": [permission({"id": "modelperm-seer", "created": 1626777600})],
    "root": "acme/seer:8b",
    "parent": None,
    "name": "Seer",
    "description": "Sees things.",
    "aliases": ["claude-seer", "seer"],
    "type": "language",
    "tags": ["vision"],
    "context_length": 400000,
    "max_model_len": 400000,
    "context_window": 400000,
    "meta": {"n_ctx": 400000},
    "max_input_tokens": 272000,
    "max_output_tokens": 128000,
    "max_completion_tokens": 128000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "input_modalities": ["text", "image"],
    "output_modalities": ["text"],
    "supported_parameters": ["tools", "reasoning"],
    "supported_endpoint_types": ["openai", "anthropic"],
    "reasoning": {
        "supported_efforts": ["low", "high"],
        "default_effort": "low",
        "mandatory": False,
    },
    "capabilities": {
        "vision": True,
        "audio_input": False,
        "tools": True,
        "reasoning": True,
        "structured_outputs": False,
    },
    "knowledge_cutoff": "2025-08",
    "pricing": {"prompt": "0.0000025", "completion": "0.00001", "audio": "on request"},
    "shutdown_date": "2028-01-31",
    "deprecation": "2027-06-01t02:00:00+02:00",
    "deprecation_replacement_model": "x",
    "metadata": {"contact": "ai@acme.example"},
}


@pytest.fixture
def seer(admin, catalogue):
    """The entry of which all is known, alone, with a permission id that does not change."""
    for model_id in ("embed", "x"):
        admin("DELETE", f"/admin/models/{model_id}")
    patch = {"permission": [{"id": "modelperm-seer"}]}
    assert 200 == admin("PATCH", "/admin/models/acme%2Fseer:8b", patch).status_code


def test_the_list(client, seer, compact):
    """The list has the reference's items, then what else is known."""
    expected = {"object": "list", "data": [SEER], "success": True}

    assert compact(expected) == client.get("/v1/models").data


def test_the_empty_list(client, admin, compact):
    """Without entries data is a list all the same."""
    expected = {"object": "list", "data": [], "success": True}

    assert compact(expected) == client.get("/v1/models").data


def test_one_model(client, seer, compact):
    """Retrieval answers the bare item, by an alias too."""
    for name in ("acme/seer:8b", "claude-seer"):
        assert compact(SEER) == client.get(f"/v1/models/{name}").data


def test_a_model_of_which_nothing_is_known(client, admin, compact):
    """Such an item has the reference's fields and no other, in list and retrieval."""
    given = {"id": "modelperm-x", "created": 1626777600}
    admin.add("x", created=1626777600, permission=[given])
    item = {
        "id": "x",
        "object": "model",
        "created": 1626777600,
        "owned_by": "custom",
        "permission": [permission(given)],
        "root": "x",
        "parent": None,
    }

    assert compact(item) == client.get("/v1/models/x").data
    assert compact({"object": "list", "data": [item], "success": True}) == (
        client.get("/v1/models").data
    )


@pytest.mark.parametrize(
    "query", [{"owned_by": "x"}, {"q": "x"}, {"limit": "1"}, {"after": "x"}, {"nothing": "x"}]
)
def test_every_part_is_a_page(query):
    """Every parameter that selects a part gives a page, which says whether there is more."""
    dialect = OpenAI(reference_only=False)
    listed = json.loads(dialect.listing([], Page([], has_more=False), dialect.window(query)))

    assert ("nothing" not in query) == ("has_more" in listed)


@pytest.mark.parametrize(
    ("status", "facts", "type_"),
    [
        (400, {"code": "invalid_value", "param": "limit"}, "invalid_request_error"),
        (401, {"code": "missing_api_key"}, "invalid_request_error"),
        (401, {"code": "invalid_api_key"}, "invalid_request_error"),
        (403, {"code": "insufficient_permissions"}, "invalid_request_error"),
        (404, {"code": "model_not_found", "param": "model"}, "invalid_request_error"),
        (404, {"code": "unknown_url"}, "invalid_request_error"),
        (405, {"code": "method_not_allowed"}, "invalid_request_error"),
        (409, {"code": "model_exists", "param": "id"}, "invalid_request_error"),
        (412, {"code": "revision_mismatch"}, "invalid_request_error"),
        (413, {"code": "request_too_large"}, "invalid_request_error"),
        (415, {"code": "unsupported_media_type"}, "invalid_request_error"),
        (422, {"code": "validation_error", "param": "name"}, "invalid_request_error"),
        (429, {"code": "rate_limit_exceeded"}, "requests"),
        (500, {}, "server_error"),
        (503, {"code": "unavailable"}, "server_error"),
    ],
)
def test_each_error(problem, compact, status, facts, type_):
    """An error has message, type, param and code, whatever its status."""
    error = {"message": "Our sentence.", "type": type_, "param": None, "code": None} | facts

    assert compact({"error": error}) == OpenAI(reference_only=False).error(
        problem(status, **facts)
    )


class TestPromises(Promises):
    dialect = OpenAI(reference_only=False)

    def ids(self, listing):
        return [model["id"] for model in listing["data"]]

    def first(self, size):
        return {"limit": str(size)}

    def following(self, query, listing):
        return {**query, "after": listing["last_id"]} if listing["has_more"] else None

    def message(self, error):
        assert ["error"] == list(error)
        assert ["message", "type", "param", "code"] == list(error["error"])
        return error["error"]["message"]
