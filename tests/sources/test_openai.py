"""OpenAI-like lists: as OpenAI, vLLM, llama.cpp, Vercel, new-api and Roster send them."""

import json

from tests.sources.reports import entries_of, rows_of

#: https://platform.openai.com/docs/api-reference/models/list
OPENAI = {"id": "gpt-x", "object": "model", "created": 1686935002, "owned_by": "openai"}
#: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, ``ModelCard``
VLLM = {
    "id": "Qwen/Qwen3-8B",
    "object": "model",
    "created": 1756000000,
    "owned_by": "vllm",
    "root": "/models/Qwen3-8B",
    "parent": None,
    "max_model_len": 40960,
    "permission": [
        {
            "id": "modelperm-9b1d",
            "object": "model_permission",
            "created": 1756000000,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
    ],
}
#: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, ``GET /v1/models``
LLAMA_CPP = {
    "id": "qwen",
    "aliases": ["qwen", "qwen3"],
    "tags": [],
    "object": "model",
    "created": 1735142223,
    "owned_by": "llamacpp",
    "meta": {"vocab_type": 2, "n_vocab": 128256, "n_ctx": 8192, "n_ctx_train": 131072},
}
#: https://vercel.com/docs/ai-gateway/models-and-providers, "Dynamic model discovery"
VERCEL = {
    "id": "google/gemini-x",
    "object": "model",
    "created": 1755815280,
    "released": 1763424000,
    "owned_by": "google",
    "name": "Gemini X",
    "description": "Reasons.",
    "context_window": 1000000,
    "max_tokens": 64000,
    "type": "language",
    "tags": ["file-input", "tool-use"],
    "pricing": {
        "input": "0.000002",
        "output": "0.000012",
        "input_cache_read": "0.0000002",
        "input_cache_write": "0.000002",
        "web_search": "0.014",
    },
}
#: https://doc.newapi.pro/en/api/list-models, with what its source adds
NEW_API = {
    "id": "gemini-y",
    "object": "model",
    "created": 1626777600,
    "owned_by": "vertex-ai",
    "supported_endpoint_types": ["gemini", "openai"],
}


def listed(*items):
    return json.dumps({"object": "list", "data": items}).encode()


def test_the_lists_of_five_servers_are_mapped():
    """Each fact has our name; what an item lacks is absent, and so is what is null or no field."""
    body = listed(OPENAI, VLLM, LLAMA_CPP, VERCEL, NEW_API)
    permission = {k: v for k, v in VLLM["permission"][0].items() if k not in ("id", "created")}

    assert {
        "gpt-x": {"created": 1686935002, "owned_by": "openai"},
        "Qwen/Qwen3-8B": {
            "created": 1756000000,
            "owned_by": "vllm",
            "root": "/models/Qwen3-8B",
            "permission": [permission],
            "context_length": 40960,
        },
        "qwen": {
            "created": 1735142223,
            "owned_by": "llamacpp",
            "aliases": ["qwen3"],
            "context_length": 8192,
        },
        "google/gemini-x": {
            "created": 1763424000,
            "owned_by": "google",
            "name": "Gemini X",
            "description": "Reasons.",
            "context_length": 1000000,
            "max_output_tokens": 64000,
            "type": "language",
            "tags": ["file-input", "tool-use"],
            "pricing": {
                "prompt": "0.000002",
                "completion": "0.000012",
                "input_cache_read": "0.0000002",
                "input_cache_write": "0.000002",
                "web_search": "0.014",
            },
        },
        "gemini-y": {
            "created": 1626777600,
            "owned_by": "vertex-ai",
            "supported_endpoint_types": ["gemini", "openai"],
        },
    } == entries_of(body)


def test_our_own_list_has_every_field(full):
    """What a client of ours lists is the entry, but for the ids and times of permissions."""
    stored, item = full
    permission = [
        {name: value for name, value in grant.items() if name not in ("id", "created")}
        for grant in item["permission"]
    ]
    [fields] = entries_of(listed(item)).values()

    assert {**stored, "permission": permission, "root": "x", "created": item["created"]} == fields


def test_a_number_is_no_price():
    """Some servers send numbers for a million tokens: only a text of 20 digits is a price."""
    prices = {"prompt": "0.1", "input": 0.3, "output": "1e-7", "image": -1, "input_tiers": [{}]}
    prices |= {"request": "1e999", "web_search": "123456789012345678901"}
    _, [row] = rows_of(listed({"id": "x", "pricing": prices}))
    number = "Must be a price for one token, text, because a number has no unit here; not {}."

    assert {"pricing": {"prompt": "0.1", "completion": "0.0000001"}} == row.fields
    assert {
        "pricing.prompt": number.format("0.3"),
        "pricing.image": number.format("-1"),
        "pricing.request": number.format("the text '1e999'"),
        "pricing.web_search": number.format("the text '123456789012345678901'"),
        "pricing": "Prices that vary are left out: a price here is one number.",
    } == row.notes


def test_odd_values_are_left_to_the_schema():
    """A row has what its item says, wrong or not; an item that is no object has no id."""
    item = {"id": 5, "created": "now", "max_model_len": "8192", "type": "chat", "aliases": "a"}
    _, [row, other] = rows_of(listed({**item, "architecture": 1, "reasoning": []}, "y"))

    fields = {"created": "now", "context_length": "8192", "type": "language", "aliases": "a"}
    assert (1, 5, fields, {}) == (row.place, row.id, row.fields, row.notes)
    assert (2, None, {}) == (other.place, other.id, other.fields)
