"""Anthropic's client."""

from anthropic import Anthropic
from driving import drive


def connect(url, key, retries):
    return Anthropic(base_url=url, api_key=key, max_retries=retries)


def about(model):
    return {"id": model.id, "name": model.display_name, "length": model.max_input_tokens}


def listing(client, page):
    return map(about, client.models.list(**({"limit": page} if page else {})))


def retrieve(client, model_id):
    return about(client.models.retrieve(model_id))


drive(connect, listing, retrieve)
