"""OpenAI's client."""

from driving import drive
from openai import OpenAI


def connect(url, key, retries):
    return OpenAI(
        base_url=f"{url}/v1",
        api_key=key or "none",
        default_headers={} if key else {"Authorization": ""},
        max_retries=retries,
    )


def about(model):
    return {"id": model.id, "name": model.name, "length": model.context_length}


def listing(client, page):
    return map(about, client.models.list())


def retrieve(client, model_id):
    return about(client.models.retrieve(model_id))


drive(connect, listing, retrieve)
