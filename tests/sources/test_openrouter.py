"""OpenRouter's list."""

import json

from tests.sources.reports import entries_of, rows_of

#: https://openrouter.ai/docs/api-reference/list-available-models
ITEM = {
    "id": "openai/gpt-x:free",
    "canonical_slug": "openai/gpt-x",
    "hugging_face_id": "",
    "name": "OpenAI: GPT-X (free)",
    "created": 1692901234,
    "description": "Large.",
    "context_length": 8192,
    "architecture": {
        "modality": "text+image->text",
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
        "tokenizer": "GPT",
        "instruct_type": "chatml",
    },
    "pricing": {
        "prompt": "0.00003",
        "completion": "0.00006",
        "request": "0",
        "image": "0",
        "web_search": "0.01",
        "internal_reasoning": "0",
        "input_cache_read": "0.000003",
        "audio": "0.0001",
        "discount": 0,
    },
    "top_provider": {"context_length": 8192, "max_completion_tokens": 4096, "is_moderated": True},
    "per_request_limits": None,
    "supported_parameters": ["temperature", "tools", "reasoning"],
    "default_parameters": {"temperature": 0.7},
    "supported_voices": None,
    "knowledge_cutoff": "2025-03-31",
    "expiration_date": "2099-06-01",
    "reasoning": {
        "mandatory": False,
        "default_enabled": True,
        "supported_efforts": ["high", "low"],
        "default_effort": "low",
    },
    "links": {"details": "/api/v1/models/openai/gpt-x/endpoints"},
}


def test_an_item_is_mapped():
    """Limits, modalities, prices, efforts and dates; the owner is in the id."""
    assert {
        "openai/gpt-x:free": {
            "root": "openai/gpt-x",
            "owned_by": "openai",
            "name": "OpenAI: GPT-X (free)",
            "created": 1692901234,
            "description": "Large.",
            "context_length": 8192,
            "max_output_tokens": 4096,
            "architecture": {
                "input_modalities": ["text", "image"],
                "output_modalities": ["text"],
            },
            "pricing": {k: v for k, v in ITEM["pricing"].items() if k != "discount"},
            "supported_parameters": ["temperature", "tools", "reasoning"],
            "knowledge_cutoff": "2025-03-31",
            "shutdown_date": "2099-06-01",
            "reasoning": {
                "mandatory": False,
                "supported_efforts": ["high", "low"],
                "default_effort": "low",
            },
        }
    } == entries_of(json.dumps({"data": [ITEM]}).encode())


def test_a_price_that_varies_is_noted():
    """OpenRouter writes -1 where the price is that of the model which its router takes."""
    item = {"id": "openrouter/auto", "canonical_slug": None, "expiration_date": None}
    prices = {"prompt": "-1", "completion": 0.5, "image": None, "overrides": [{}]}
    name, [row] = rows_of(json.dumps({"data": [{**item, "pricing": prices}]}).encode())

    assert "openrouter" == name
    assert {"owned_by": "openrouter", "pricing": {"completion": "0.5"}} == row.fields
    assert {
        "pricing.prompt": "Must be a price for one token, from 0 on; not the text '-1'.",
        "pricing": "Prices that vary are left out: a price here is one number.",
    } == row.notes


def test_the_owner_of_a_moving_name_has_no_tilde():
    """`~anthropic/claude-latest` is of anthropic, and an id without a slash is of nobody."""
    items = [{"id": "~anthropic/claude-latest", "canonical_slug": "a"}, {"id": "x"}]
    entries = entries_of(json.dumps({"data": items}).encode(), "openrouter")

    assert ["anthropic", None] == [fields.get("owned_by") for fields in entries.values()]
