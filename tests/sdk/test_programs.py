"""Programs that people list models with, unmodified, against a real gunicorn."""

import json
import os
import re
import subprocess
import time

import pytest

from tests.conftest import PATIENCE
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
#: A key of Anthropic's, or of another gateway.
FOREIGN = "sk-ant-api03-another"


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


@pytest.fixture
def claude_code(catalogue, environments, bare, tmp_path):
    """What starts Claude Code with some keys, and returns what is in its menu from a list."""
    log = tmp_path / "log"
    words = ["--verbose", "--input-format", "stream-json", "--output-format", "stream-json"]
    command = [environments.claude_code(), "-p", *words, "--debug-file", log]
    settings = {
        "ANTHROPIC_BASE_URL": catalogue.url,
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CONFIG_DIR": str(tmp_path / "settings"),
        "CLAUDE_CODE_TMPDIR": str(tmp_path),
        # It asks no other server, and if it did, that would fail at once.
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }

    def wait(started):
        """Return what the log says of the list, once it does."""
        deadline = time.monotonic() + PATIENCE
        while started.poll() is None and time.monotonic() < deadline:
            printed = log.read_text() if log.exists() else ""
            if said := re.search(r"\[gatewayDiscovery\] (.+)\n", printed):
                return said[1]
            time.sleep(0.01)
        return "nothing"

    def menu(**keys):
        asked = {"type": "control_request", "request_id": "1"}
        asked["request"] = {"subtype": "initialize"}
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**bare, **settings, **keys},
            cwd=tmp_path,
            text=True,
        ) as started:
            try:
                said = wait(started)
                assert said.startswith("cached"), said
                answered, _ = started.communicate(json.dumps(asked), PATIENCE)
            finally:
                started.terminate()
        models = json.loads(answered)["response"]["response"]["models"]
        listed = [model for model in models if "From gateway" == model["description"]]
        return {model["value"]: model["displayName"] for model in listed}

    return menu


@pytest.mark.needs("npm", "npm")
@pytest.mark.parametrize("name", ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"])
def test_claude_code_shows_in_its_menu_what_our_key_sees(claude_code, member, name):
    """It sends two keys, as Bearer and as ``x-api-key``: the one that is not ours does no harm."""
    keys = {"ANTHROPIC_AUTH_TOKEN": FOREIGN, "ANTHROPIC_API_KEY": FOREIGN, name: member}

    assert {
        "acme/like-claude": "Like Claude",
        "claude-acme-coder": "Coder",
        "claude-ours": "Ours",
    } == claude_code(**keys)


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
