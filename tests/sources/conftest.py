"""Fixtures: an entry of which everything is known."""

import pytest

from tests.pages import examples


@pytest.fixture
def full(admin):
    """Everything that is known of an entry, and the item of the public list that shows it."""
    read_only = {"object", "source", "revision", "capabilities"}
    mirrors = {"max_model_len", "context_window", "meta", "max_completion_tokens"}
    mirrors |= {"input_modalities", "output_modalities"}
    hidden = {"list_aliases", "available_from"}
    elsewhere = read_only | mirrors | hidden | {"id", "permission", "parent", "root"}
    stored = {name: v for name, v in examples("Entry").items() if name not in elsewhere}
    stored |= {"deprecation_replacement_model": "y", "shutdown_date": "2099-03-31"}
    admin.add("y")
    admin.add("x", **stored)
    [item] = [item for item in admin("GET", "/v1/models").json["data"] if item["id"] == "x"]
    return stored, item
