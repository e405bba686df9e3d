"""A newcomer's first five minutes: a clean clone, the README's first command, one POST."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.reference import REFERENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # it installs everything from a package index
def test_the_first_command_serves_a_clean_clone(tmp_path, site_at):
    """The README's first command serves; one POST later the reference reply is there."""
    clone = tmp_path / "roster"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    command = re.search(r"^```sh\n(.*)\n```$", (clone / "README.md").read_text(), re.MULTILINE)[1]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=clone,
            env={**environ, "ROSTER_BIND": "127.0.0.1:0"},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300  # pip may be slow
        while not (found := re.search(r"Listening at: \S+:(\d+)", (tmp_path / "err").read_text())):
            assert process.poll() is None, (tmp_path / "err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        server = site_at(int(found[1]))
        key = (clone / "instance" / "admin-key").read_text().strip()
        [entry] = REFERENCE["data"]
        posted = server("POST", "/admin/models", entry, key)
        first, second = server("GET", "/v1/models"), server("GET", "/v1/models")
        expected = {"object": "list", **REFERENCE}

        assert 201 == posted.status
        assert json.dumps(expected, separators=(",", ":")).encode() == first.body
        assert first.body == second.body
        tag = first.headers["ETag"]
        assert 304 == server("GET", "/v1/models", If_None_Match=tag).status
        status = ["git", "status", "--porcelain"]
        assert b"" == subprocess.run(status, cwd=clone, capture_output=True, check=True).stdout
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
