"""Google's client."""

from driving import drive
from google.genai import Client


def connect(url, key, retries):
    options = {
        "base_url": url,
        "headers": {} if key else {"x-goog-api-key": ""},
        "retry_options": {"attempts": retries + 1},
    }
    return Client(api_key=key or "none", http_options=options)


def about(model):
    return {
        "id": model.name.removeprefix("models/"),
        "name": model.display_name,
        "length": model.input_token_limit,
    }


def listing(client, page):
    return map(about, client.models.list(config={"page_size": page} if page else None))


def retrieve(client, model_id):
    return about(client.models.get(model=model_id))


drive(connect, listing, retrieve)
