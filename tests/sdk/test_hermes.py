"""hermes-agent, unmodified, against a real gunicorn: which limits, prices and images it reads."""

import json
import subprocess

import pytest

from tests.dialects.conftest import FULL
from tests.sdk.environments import HERE

PRICING = {"prompt": "0.0000025", "completion": "0.00001", "input_cache_read": "0.000001"}


@pytest.mark.slow
def test_hermes_reads_what_is_known(server, environments, tmp_path):
    """It takes the context for the context, and of an unknown model it knows nothing."""
    # Metadata that it would take for prices, if it came first.
    entries = [FULL | {"pricing": PRICING, "metadata": {"output": "text"}}, {"id": "x"}]
    for entry in entries:
        assert 201 == server.admin("POST", "/admin/models", entry).status
    key = server.admin("POST", "/admin/keys", {"name": "hermes"}).json["key"]
    done = subprocess.run(
        [environments.hermes(), HERE / "drivers/hermes.py", server.url, key, FULL["id"], "x"],
        env={"HERMES_HOME": str(tmp_path), "HOME": str(tmp_path), "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert {
        FULL["id"]: {
            "context": 400_000,
            "output": 128_000,
            "prices": [2.5, 10, 1],
            "prompt": 272_000,
            "ollama context": 400_000,
            "images": True,
        },
        "x": {
            "context": None,
            "output": None,
            "prices": None,
            "prompt": None,
            "ollama context": None,
            "images": False,
        },
    } == json.loads(done.stdout)
