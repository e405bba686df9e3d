"""LiteLLM's price file, and the models of its proxy."""

import json
from importlib import resources

import pytest

from tests.sources.reports import entries_of, rows_of, table_of

CHAT = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_tokens": 4096,
    "max_input_tokens": 128000.0,
    "max_output_tokens": 4096,
    "input_cost_per_token": 2.9999900000000002e-06,
    "output_cost_per_token": 1e-07,
    "cache_read_input_token_cost": 0.0,
    "cache_creation_input_token_cost": 5,
    "output_cost_per_reasoning_token": 0.25,
    "input_cost_per_image": 1e-20,
    "deprecation_date": "2099-06-01",
    "supports_function_calling": True,
    "supports_response_schema": True,
    "supports_tool_choice": False,
    "supports_vision": True,
    "supports_pdf_input": True,
    "supported_output_modalities": ["text"],
    "supports_prompt_caching": True,
}


def test_a_model_is_mapped():
    """Prices are plain decimals of at most 20 digits, and flags are words."""
    assert {
        "gpt-x": {
            "owned_by": "openai",
            "type": "language",
            "max_input_tokens": 128000.0,
            "max_output_tokens": 4096,
            "shutdown_date": "2099-06-01",
            "pricing": {
                "prompt": "0.00000299999",
                "completion": "0.0000001",
                "input_cache_read": "0",
                "input_cache_write": "5",
                "internal_reasoning": "0.25",
                "image": "0.00000000000000000001",
            },
            "supported_parameters": ["tools", "structured_outputs"],
            "architecture": {
                "input_modalities": ["text", "image", "file"],
                "output_modalities": ["text"],
            },
        }
    } == entries_of(json.dumps({"gpt-x": CHAT}).encode())


def test_what_is_unknown_is_absent():
    """A model without flags and prices has no empty list and no price of 0."""
    body = {"x": {"litellm_provider": "a", "mode": "embedding", "max_input_tokens": 0}, "y": None}
    _, rows = rows_of(json.dumps(body).encode())

    assert [("x", {"owned_by": "a", "type": "embedding"}), ("y", {})] == [
        (row.id, row.fields) for row in rows
    ]


#: https://docs.litellm.ai/docs/proxy/model_management, ``GET /v1/model/info``
DEPLOYMENTS = [
    {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", "use_in_pass_through": False},
        "model_info": {
            "id": "9f3c",
            "db_model": False,
            "key": name,
            "max_input_tokens": 128000,
            "input_cost_per_token": 1.5e-7,
            "input_cost_per_token_above_128k_tokens": None,
            "cache_read_input_token_cost": None,
            "litellm_provider": "openai",
            "mode": "chat",
            "supports_vision": None,
            "supports_function_calling": True,
        },
    }
    for name in ("gpt-x", "gpt-x", "openai/*")
]


def test_the_models_of_a_proxy_are_mapped():
    """Deployments of one model are one entry; a model of the operator's own has its name alone."""
    own = {"model_name": "own", "litellm_params": {}, "model_info": {"id": "1", "db_model": False}}
    name, rows = rows_of(json.dumps({"data": [*DEPLOYMENTS, own, 5]}).encode())

    assert "litellm" == name
    assert [
        (1, "gpt-x", None),
        (2, "gpt-x", "It is one more deployment of the same model."),
        (3, "openai/*", "The '*' in its name matches many models."),
        (4, "own", None),
        (5, None, None),
    ] == [(row.place, row.id, row.no_model) for row in rows]
    assert {
        "owned_by": "openai",
        "type": "language",
        "max_input_tokens": 128000,
        "pricing": {"prompt": "0.00000015"},
        "supported_parameters": ["tools"],
    } == rows[0].fields
    assert {} == rows[0].notes == rows[3].fields


@pytest.mark.slow
@pytest.mark.imports("llmprice-kit")
def test_the_real_file():
    """Of 2,598 rows one is refused for its id; each other loss has a reason that is known."""
    body = resources.files("llmprice").joinpath("data/model_prices.json").read_bytes()
    name, rows = rows_of(body)

    assert ("litellm", 2598, 2598) == (name, len(rows), len({row.id for row in rows}))
    assert {
        ("no model", "It describes the file."): 1,
        ("no model", "The '*' in its name matches many models."): 4,
        # Prices above 128,000 tokens, and of searches by the size of the context.
        ("noted", "pricing"): 145,
        # `max_tokens` without `max_input_tokens` and `max_output_tokens`.
        ("noted", "max_output_tokens"): 38,
        # The modes ocr, realtime, search and vector_store.
        ("refused", "type"): 26,
        # "fireworks_ai/accounts/fireworks/models/", which ends with a slash.
        ("refused", "id"): 1,
    } == table_of(rows)
    assert {"prompt": "0.0000025", "completion": "0.00001", "input_cache_read": "0.00000125"} == (
        next(row.fields["pricing"] for row in rows if row.id == "gpt-4o")
    )
