"""Programs that people list models with, unmodified, against a real gunicorn."""

import json
import os
import subprocess

import pytest

from tests.sdk.environments import HERE

pytestmark = pytest.mark.slow

ENTRIES = [
    {"id": "acme/coder", "name": "Coder", "aliases": ["claude-acme-coder"], "list_aliases": True},
    {"id": "acme/like-claude", "name": "Like Claude"},
    {"id": "gpt-x", "aliases": ["gpt-x:latest"]},
    {"id": "llama3", "aliases": ["llama3:latest"], "list_aliases": True},
    {"id": "phi4:14b"},
]
OURS = {"id": "claude-ours", "name": "Ours", "permission": [{"organization": "acme"}]}
PUBLIC = [
    "acme/coder",
    "acme/like-claude",
    "claude-acme-coder",
    "gpt-x",
    "llama3",
    "llama3:latest",
    "phi4:14b",
]
#: What the clients send that want a key and have none.
PLACEHOLDERS = ["EMPTY", "no-key-required", "DUMMY_KEY"]


@pytest.fixture(scope="module")
def environ():
    """The placeholders count as no key."""
    return {"ROSTER_PUBLIC_KEYS": ",".join(PLACEHOLDERS)}


@pytest.fixture(scope="module")
def catalogue(server):
    """The server with the entries, of which one is for an organization alone."""
    for entry in [*ENTRIES, OURS]:
        known = {"name": entry["id"], "context_length": 8192}  # what the drivers read of each
        assert 201 == server.admin("POST", "/admin/models", known | entry).status
    return server


@pytest.fixture(scope="module")
def member(catalogue):
    """A key of the organization."""
    fields = {"name": "member", "organization": "acme"}
    return catalogue.admin("POST", "/admin/keys", fields).json["key"]


@pytest.fixture
def bare(tmp_path):
    """An environment that has nothing that a person has set."""
    return {"HOME": str(tmp_path), "PATH": os.defpath, "NO_PROXY": "*"}


@pytest.fixture
def run(bare, tmp_path):
    """What runs a command and returns what it prints."""

    def done(*command, stdin=""):
        finished = subprocess.run(
            command,
            input=stdin,
            env=bare,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 0 == finished.returncode, finished.stderr
        return finished.stdout

    return done


def test_any_llm_lists_without_a_key(catalogue, environments, run):
    """Its providers that need no key list what everyone sees; most send a placeholder."""
    providers = ["llamacpp", "llamafile", "ollama", "vllm"]
    driver = HERE / "drivers/lists_of_any_llm.py"

    assert dict.fromkeys(providers, PUBLIC) == json.loads(
        run(environments.programs(), driver, catalogue.url, *providers)
    )


def test_langchain_finds_the_models_that_it_checks(catalogue, environments, run):
    """It looks a model up in Ollama's list: ``NAME:latest`` only where that is a listed alias."""
    found = ["gpt-x", "llama3", "llama3:latest", "phi4", "phi4:14b", "claude-acme-coder"]
    driver = HERE / "drivers/checks_of_langchain.py"
    asked = [*found, "gpt-x:latest", "claude-ours", "no/such"]

    assert found == json.loads(run(environments.programs(), driver, catalogue.url, *asked))


def test_llm_lists_an_endpoint(catalogue, member, environments, run):
    """``llm openai endpoint`` lists what its key sees, and without one what everyone sees."""
    program = environments.programs().with_name("llm")
    command = [program, "openai", "endpoint", f"{catalogue.url}/v1", "--models"]

    assert PUBLIC == run(*command).splitlines()
    assert sorted([*PUBLIC, OURS["id"]]) == run(*command, "--key", member).splitlines()


@pytest.mark.parametrize(
    "edition",
    [
        pytest.param("newest", marks=pytest.mark.imports("openai")),
        "older",
        pytest.param("javascript", marks=pytest.mark.needs("npm", "npm")),
    ],
)
def test_openai_lists_with_a_placeholder_for_a_key(catalogue, environments, run, edition):
    """A client that refuses to start without a key lists what everyone sees."""
    steps = [{"url": catalogue.url, "key": word, "retries": 0} for word in PLACEHOLDERS]
    outcomes = json.loads(run(*environments.driver("openai", edition), stdin=json.dumps(steps)))

    assert [PUBLIC] * len(steps) == [
        [model["id"] for model in outcome.get("models", [])] for outcome in outcomes
    ]
