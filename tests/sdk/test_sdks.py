"""The official clients, unmodified, against a real gunicorn: each promise for each of them.

A client takes all its steps in one run of its driver; the tests then ask what came of them.
"""

import json
import os
import subprocess

import pytest

from tests.sdk.environments import PACKAGES

#: What everybody sees, in order; the ids have what is hard in a URL, the last one every sign
#: that an id may have, but for the ampersand, which Google's clients refuse to ask for.
NAMES = {
    "claude/sonnet 4": "Sonnet",
    "gpt-x": "X",
    "llama3:8b": "Llama",
    "meta/llama 3:70b": "Large Llama",
    "zeta": "Zeta",
    "~!$()*+,-./:;<=>@[]^_`{|}'\"": "Every sign",
}
OURS = "acme/ours"
#: The context, and the longest prompt, which is unknown of the last model.
CONTEXT, PROMPT = 400_000, 272_000
UNKNOWN = [*NAMES][-1]
#: What a vendor's exception says of a model that is not there, and of a bad key.
SAYS = {
    "openai": ("The model '{}' does not exist", "Incorrect API key provided: "),
    "anthropic": ("model: {}", "invalid x-api-key"),
    "gemini": ("models/{} is not found for API version v1beta", "Incorrect API key provided: "),
    "ollama": ("model '{}' not found", "Incorrect API key provided: "),
}
#: What it raises for 404, 401, 429 and 503; some editions have fewer types.
RAISES = {
    "openai": ("NotFoundError", "AuthenticationError", "RateLimitError", "InternalServerError"),
    "anthropic": (
        "NotFoundError",
        "AuthenticationError",
        "RateLimitError",
        "ServiceUnavailableError",
    ),
    "gemini": ("ClientError", "ClientError", "ClientError", "ServerError"),
    "ollama": ("ResponseError",) * 4,
}
RAISES_INSTEAD = {
    ("anthropic", "older"): RAISES["openai"],
    ("gemini", "javascript"): ("ApiError",) * 4,
}
EDITIONS = {
    "openai": ("newest", "older", "javascript"),
    "anthropic": ("newest", "older", "javascript"),
    "gemini": ("newest", "older", "javascript"),
    "ollama": ("newest", "javascript"),
}
#: Requests that all entries take, two at a time. OpenAI's clients ask for everything at once, so
#: do Ollama's, and then for each model what it can do.
REQUESTS = {"openai": 1, "anthropic": 3, "gemini": 3, "ollama": 1 + len(NAMES)}


def mark(vendor, edition):
    """Return the mark of a client; the first run with ``--all`` installs the older ones."""
    if edition == "newest":
        return pytest.mark.imports(PACKAGES[vendor])
    return pytest.mark.needs("npm", "npm") if edition == "javascript" else pytest.mark.slow


CLIENTS = [
    pytest.param((vendor, edition), id=f"{vendor}-{edition}", marks=mark(vendor, edition))
    for vendor, editions in EDITIONS.items()
    for edition in editions
]


@pytest.fixture(scope="module")
def environ():
    """One worker tells in order what was asked of `server`."""
    return {"WEB_CONCURRENCY": "1"}


@pytest.fixture(scope="module")
def refusing(server, tmp_path_factory):
    """A server that refuses keys by their name."""
    started = type(server)(
        tmp_path_factory.mktemp("refusing"), "tests.sdk.refusing:app", WEB_CONCURRENCY="1"
    )
    yield started
    started.stop()


@pytest.fixture(scope="module")
def catalogue(server, refusing):
    """The real server; both have the entries, of which one is for an organization alone."""
    for each in (server, refusing):
        for model_id, name in NAMES.items():
            add(each, model_id, name)
        add(each, OURS, "Ours", permission=[{"organization": "acme"}])
    return server


def add(server, model_id, name, **fields):
    body = {"id": model_id, "name": name, "context_length": CONTEXT}
    if model_id != UNKNOWN:
        body["max_input_tokens"] = PROMPT
    assert 201 == server.admin("POST", "/admin/models", body | fields).status


def new_key(server, **fields):
    return server.admin("POST", "/admin/keys", fields).json["key"]


def revoked_key(server):
    key = new_key(server, name="revoked")
    assert 204 == server.admin("DELETE", f"/admin/keys/{key[3:11]}").status
    return key


def statuses(server, key):
    """Return the status of each request that was made with a key."""
    return [line["status"] for line in server.access_lines() if line["kid"] == key[3:11]]


class Seen:
    """What a client made of the answers, step by step."""

    def __init__(self, vendor, edition, catalogue, refusing):
        self.vendor = vendor
        types = RAISES_INSTEAD.get((vendor, edition), RAISES[vendor])
        #: The client's own exceptions, by status.
        self.raises = dict(zip((404, 401, 429, 503), types, strict=True))
        self.pager = catalogue, new_key(catalogue, name="pager")
        self.paced = refusing, new_key(refusing, name="paced")
        reader = catalogue, new_key(catalogue, name="reader")
        member = catalogue, new_key(catalogue, name="member", organization="acme")
        keyless = {} if vendor == "anthropic" else {"keyless": self._step(catalogue, None)}
        self.steps = {
            **keyless,
            "list": self._step(*reader),
            "member": self._step(*member),
            "member one": self._step(*member, id=OURS),
            "pages": self._step(*self.pager, page=2),
            **{f"one {name}": self._step(*reader, id=name) for name in NAMES},
            "unknown": self._step(*reader, id="no/such"),
            "hidden": self._step(*reader, id=OURS),
            "wrong": self._step(catalogue, "sk-wrong-by-far"),
            "revoked": self._step(catalogue, revoked_key(catalogue)),
            "limited": self._step(refusing, new_key(refusing, name="limited")),
            "down": self._step(refusing, new_key(refusing, name="down")),
            "paced": self._step(*self.paced, retries=1),
        }

    def _step(self, server, key, **more):
        return {"url": server.url, "key": key, "retries": 0, **more}

    def take(self, driver):
        """Take the steps by one run of a driver."""
        done = subprocess.run(
            driver,
            input=json.dumps(list(self.steps.values())),
            # Nothing that a person has set for these clients may reach them.
            env={name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        self.outcomes = dict(zip(self.steps, json.loads(done.stdout), strict=True))

    def ids(self, step):
        """Return the ids of a list, or the error that came instead."""
        outcome = self.outcomes[step]
        return [model["id"] for model in outcome["models"]] if "models" in outcome else outcome


@pytest.fixture(scope="module")
def all_seen():
    """What clients saw that were run already."""
    return {}


@pytest.fixture(params=CLIENTS)
def seen(request, all_seen, catalogue, refusing, environments):
    """What one client saw."""
    vendor, edition = request.param
    if request.param not in all_seen:
        driver = environments.driver(vendor, edition)
        all_seen[request.param] = Seen(*request.param, catalogue, refusing)
        all_seen[request.param].take(driver)
    return all_seen[request.param]


def test_it_lists_what_its_key_sees(seen):
    """The list is the public one, for a member also the organization's, in order of id."""
    assert list(NAMES) == seen.ids("list")
    assert sorted([*NAMES, OURS]) == seen.ids("member")


def test_it_needs_no_key(seen):
    """Without a key the list is the public one."""
    if "keyless" not in seen.steps:
        pytest.skip("Anthropic's client sends nothing without a key.")

    assert list(NAMES) == seen.ids("keyless")


def test_it_pages_by_itself(seen):
    """Going through the list fetches page after page, and skips and repeats nothing."""
    assert list(NAMES) == seen.ids("pages")
    assert [200] * REQUESTS[seen.vendor] == statuses(*seen.pager)


def test_it_retrieves_every_id(seen):
    """An id with a slash, a colon or a space is retrieved, and said as the list says it."""
    retrieved = [seen.outcomes[f"one {model_id}"].get("model") for model_id in NAMES]

    assert seen.outcomes["list"]["models"] == retrieved
    assert OURS == seen.outcomes["member one"]["model"]["id"]


def test_what_is_known_arrives_in_its_own_fields(seen):
    """Display name and length are where the vendor's own models have them.

    Two vendors have the longest prompt: a model of which it is unknown has none, not the context.
    """
    prompt = seen.vendor in ("anthropic", "gemini")
    known = PROMPT if prompt else CONTEXT
    length = dict.fromkeys(NAMES, known) | ({UNKNOWN: None} if prompt else {})

    assert [
        {
            "id": model_id,
            "name": None if seen.vendor == "ollama" else name,
            "length": length[model_id],
        }
        for model_id, name in NAMES.items()
    ] == seen.outcomes["list"]["models"]


@pytest.mark.parametrize(
    ("step", "model_id"), [("unknown", "no/such"), ("hidden", OURS)], ids=["unknown", "hidden"]
)
def test_a_model_that_is_not_there_is_its_not_found_error(seen, step, model_id):
    """What does not exist and what others alone may see raise the same, with our sentence."""
    outcome = seen.outcomes[step]

    assert seen.raises[404] == outcome.get("error")
    assert SAYS[seen.vendor][0].format(model_id) in outcome["says"]
    if seen.vendor in ("openai", "anthropic"):  # the others' exceptions do not tell it
        assert outcome["request_id"].startswith("req_")


@pytest.mark.parametrize("step", ["wrong", "revoked"])
def test_a_bad_key_is_its_authentication_error(seen, step):
    """A key that never was and one that is no longer raise the same, with our sentence."""
    assert seen.raises[401] == seen.outcomes[step].get("error")
    assert SAYS[seen.vendor][1] in seen.outcomes[step]["says"]


def test_a_limit_is_its_rate_limit_error(seen):
    """A 429 raises what the vendor has for it, with the sentence of whoever limits."""
    assert seen.raises[429] == seen.outcomes["limited"].get("error")
    assert "Too many requests. Slow down." in seen.outcomes["limited"]["says"]


def test_an_outage_is_its_server_error(seen):
    """A 503 raises what the vendor has for it, with our sentence."""
    assert seen.raises[503] == seen.outcomes["down"].get("error")
    assert "The catalogue cannot be reached just now. Try again." in seen.outcomes["down"]["says"]


def test_it_tries_again_after_the_time_that_it_is_told(seen):
    """With one retry a client waits as long as ``Retry-After`` says, and then succeeds.

    Gemini's clients do not read it, but wait for a second or two on their own.
    """
    if seen.vendor == "ollama":
        pytest.skip("Ollama's client tries nothing again.")

    assert list(NAMES) == seen.ids("paced")
    assert [429, 200] == statuses(*seen.paced)
