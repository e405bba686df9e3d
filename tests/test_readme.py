"""The README is true, and short: what `tests/test_docs.py` tests of all pages, and this."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.services import VERSION
from bench.report import number
from tests.pages import PAGES, ROOT, blocks
from tests.sdk.environments import PACKAGES

README = PAGES["README.md"]


def test_it_is_short():
    """Someone with five minutes reads all of it."""
    assert len(README.splitlines()) <= 180


def test_the_start_block_is_the_real_one(server):
    """What gunicorn prints at its start is what the README shows."""
    printed = re.sub(r"^\{.*\n", "", server.out.read_text(), flags=re.MULTILINE)
    printed = printed.replace(f"127.0.0.1:{server.port}", "127.0.0.1:8000")
    printed = printed.replace(str(server.instance), "instance")
    shown = [block for block in blocks("README.md", "text") if block.startswith("Roster")]

    assert [printed] == shown
    assert f"Roster {VERSION} " in printed


def test_the_set_up_commands_are_those_of_the_project():
    """One line sets up and serves, one sets up and tests, one does the same with everything."""
    venv = "python3 -m venv .venv && .venv/bin/pip install -e"

    assert [
        f"{venv} . && .venv/bin/gunicorn\n",
        f"{venv} '.[test]' && .venv/bin/pytest\n",
        ".venv/bin/pip install -e '.[test-all]' && .venv/bin/pytest --all\n",
    ] == blocks("README.md", "sh")


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(client, marks=pytest.mark.imports(PACKAGES[client.lower()]))
        for client in ("OpenAI", "Anthropic", "Gemini", "Ollama")
    ],
)
def test_the_lines_of_a_client_can_be_pasted(server, client):
    """Pasted into a shell, the lines of a client print what its key sees."""
    key = server.admin("POST", "/admin/keys", {"name": "x", "organization": "acme"}).json["key"]
    server.admin("PUT", "/admin/models/for-acme", {"permission": [{"organization": "acme"}]})
    [block] = blocks("README.md", "bash")
    [lines] = re.findall(rf"^# {client}: pip install [\w-]+\n(.*?)(?=^#|\Z)", block, re.M | re.S)
    lines = lines.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace(
        "KEY\n", f"{key}\n"
    )
    done = subprocess.run(
        ["bash", "-euc", lines],
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.search(r"'(models/)?for-acme'", done.stdout), done.stdout


def test_the_figures_are_the_measured_ones():
    """Each figure in the text is that of the latest results."""
    latest = json.loads((ROOT / "bench" / "results" / "latest.json").read_text())["figures"]
    costs, ratio, naive = (
        number(latest[f"reads.300.200.{name}"]["median"])
        for name in ("service.cpu", "service.cpu_ratio", "naive Flask.cpu_ratio")
    )
    reads, stale = (latest[f"freshness.direct.{name}"]["median"] for name in ("reads", "stale"))
    text = " ".join(README.split())

    assert f"of {reads:,.0f} reads right after a write, {stale:.0f} were stale" in text
    assert f"A list of 300 models costs {costs} µs of CPU, {ratio} times" in text
    assert f"costs {naive} times as much" in text
