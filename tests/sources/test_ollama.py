"""Ollama's list of tags."""

import json

from tests.sources.reports import entries_of

#: https://docs.ollama.com/api/tags
MODELS = [
    {
        "name": "gemma3:latest",
        "model": "gemma3:latest",
        "modified_at": "2025-10-03T23:34:03.409490317-07:00",
        "size": 3338801804,
        "digest": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
        "details": {
            "format": "gguf",
            "family": "gemma",
            "families": ["gemma"],
            "parameter_size": "4.3B",
            "quantization_level": "Q4_K_M",
            "context_length": 131072,
        },
        "capabilities": ["completion", "vision", "tools", "thinking"],
    },
    {"name": "embed", "modified_at": "yesterday", "digest": "a", "capabilities": ["embedding"]},
    {"name": "old", "details": {}},
]


def test_models_are_mapped():
    """Each has its time, its context and what follows from its capabilities, as far as known."""
    assert {
        "gemma3:latest": {
            "created": 1759559643,
            "context_length": 131072,
            "supported_parameters": ["tools", "reasoning"],
            "architecture": {"input_modalities": ["text", "image"]},
        },
        "embed": {
            "supported_parameters": [],
            "architecture": {"input_modalities": ["text"]},
            "type": "embedding",
        },
        "old": {},
    } == entries_of(json.dumps({"models": MODELS}).encode())


def test_our_own_list_is_one(admin):
    """What Roster answers an Ollama client is read again."""
    admin.add("x", context_length=8192, created=1750032000, supported_parameters=["tools"])
    entries = entries_of(admin("GET", "/api/tags").data)

    assert ["x"] == [name.removesuffix(":latest") for name in entries]
    assert (8192, 1750032000) == tuple(
        fields[name] for fields in entries.values() for name in ("context_length", "created")
    )
