"""Ollama's client, which has neither retries nor display names; limits it shows of one model."""

from driving import drive
from ollama import Client


def connect(url, key, retries):
    return Client(host=url, headers={"Authorization": f"Bearer {key}"} if key else {})


def listing(client, page):
    return [retrieve(client, model.model) for model in client.list().models]


def retrieve(client, model_id):
    info = client.show(model_id).modelinfo
    return {
        "id": model_id,
        "name": None,
        "length": info[f"{info['general.architecture']}.context_length"],
    }


drive(connect, listing, retrieve)
