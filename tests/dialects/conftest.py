"""What the golden tests of the dialects share: one catalogue, and every problem there is."""

import json

import pytest

from app.dialects import Problem
from tests.dialects.derived import address

#: An entry of which everything is known.
FULL = {
    "id": "acme/seer:8b",
    "created": 1626777600,
    "owned_by": "acme",
    "name": "Seer",
    "description": "Sees things.",
    "aliases": ["claude-seer", "seer"],
    "type": "language",
    "tags": ["vision"],
    "context_length": 400000,
    "max_input_tokens": 272000,
    "max_output_tokens": 128000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "supported_parameters": ["tools", "reasoning"],
    "supported_endpoint_types": ["openai", "anthropic"],
    "reasoning": {
        "supported_efforts": ["low", "high"],
        "default_effort": "low",
        "mandatory": False,
    },
    "knowledge_cutoff": "2025-08",
    "pricing": {"prompt": "0.0000025", "completion": "0.00001", "audio": "on request"},
    "shutdown_date": "2028-01-31",
    "deprecation": "2027-06-01t02:00:00+02:00",
    "deprecation_replacement_model": "x",
    "metadata": {"contact": "ai@acme.example"},
}


@pytest.fixture
def compact():
    """What makes the bytes of a value as we send them."""

    def dump(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    return dump


@pytest.fixture
def answers(app, client):
    """What asks each dialect for the list and for a model, and gives both answers by name."""

    def ask(model_id=FULL["id"], **headers):
        found = {}
        for dialect in app.extensions["roster"].dialects:
            path, own = address(dialect)
            given = {**own, **headers}
            listing = client.get(path, headers=given)
            if dialect.routes is not None and dialect.routes.lookup is not None:
                one = client.post(dialect.routes.lookup, json={"model": model_id}, headers=headers)
            else:
                one = client.get(f"{path}/{model_id}", headers=given)
            found[dialect.name] = listing, one
        return found

    return ask


@pytest.fixture
def catalogue(admin):
    """An entry of which all is known, one that embeds, and one of which nothing is known."""
    admin("POST", "/admin/models", FULL)
    admin.add("embed", created=0, architecture={"output_modalities": ["embeddings"]})
    admin.add("x", created=1626777600)


@pytest.fixture
def problem():
    """What makes a problem, as ``app.api.errors`` does."""

    def make(status, **facts):
        given = {"code": None, "message": "Our sentence.", "request_id": "req_1", **facts}
        return Problem(status=status, **given)

    return make
