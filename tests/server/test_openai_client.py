"""The official OpenAI client, unmodified, against a real gunicorn."""

import time

import openai
import pytest


@pytest.fixture(scope="module")
def catalogue(server):
    server.admin("POST", "/admin/models", {"id": "meta/llama 3"})
    server.admin("POST", "/admin/models", {"id": "gpt-x"})
    server.admin("POST", "/admin/models", {"id": "ours", "permission": [{"organization": "acme"}]})
    server.admin(
        "POST", "/admin/models", {"id": "blocked", "permission": [{}, {"is_blocking": True}]}
    )
    return server


@pytest.fixture
def sdk(catalogue):
    """Return what makes a client with a key; the empty one stands for no key."""
    clients = []

    def client(key=""):
        headers = {} if key else {"Authorization": ""}
        clients.append(
            openai.OpenAI(
                api_key=key or "unused",
                base_url=f"{catalogue.url}/v1",
                default_headers=headers,
                max_retries=0,
            )
        )
        return clients[-1]

    yield client
    for made in clients:
        made.close()


def new_key(server, **fields):
    return server.admin("POST", "/admin/keys", {"name": "sdk", **fields}).json["key"]


def test_it_lists_and_retrieves_the_same(catalogue, sdk):
    """For a reader without a key and one with, list and retrieval agree on every entry."""
    for key, expected in (
        ("", ["gpt-x", "meta/llama 3"]),
        (new_key(catalogue, organization="acme"), ["gpt-x", "meta/llama 3", "ours"]),
    ):
        client = sdk(key)
        listed = list(client.models.list())

        assert expected == [model.id for model in listed]
        for model in listed:
            assert model == client.models.retrieve(model.id)
        for hidden in {"gpt-x", "meta/llama 3", "ours", "blocked"} - set(expected):
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(hidden)


def test_an_unknown_model_is_its_not_found_error(sdk):
    """NotFoundError carries our code and sentence."""
    with pytest.raises(openai.NotFoundError) as raised:
        sdk().models.retrieve("no/such")

    assert ("model_not_found", "model") == (raised.value.code, raised.value.param)
    assert "The model 'no/such' does not exist" in str(raised.value)
    assert raised.value.request_id.startswith("req_")


def test_a_bad_key_is_its_authentication_error(catalogue, sdk):
    """A wrong, a revoked and an expired key raise AuthenticationError."""
    revoked = new_key(catalogue)
    catalogue.admin("DELETE", f"/admin/keys/{revoked[3:11]}")
    end = int(time.time()) + 4
    expired = new_key(catalogue, expires_at=end)
    assert 2 == len(list(sdk(expired).models.list()))
    while time.time() < end:
        time.sleep(0.05)
    for key in ("sk-wrong", catalogue.admin_key[:-1] + "!", revoked, expired):
        with pytest.raises(openai.AuthenticationError) as raised:
            sdk(key).models.list()

        assert "invalid_api_key" == raised.value.code
