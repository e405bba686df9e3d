"""The Containerfile, step by step, in a folder that stands for the root of its image.

There is no engine where this runs, and the base image is the Python of the tests.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "container" / "Containerfile").read_text()
PATIENCE = 30.0  # seconds

pytestmark = pytest.mark.slow  # it installs the application from a package index


def instructions():
    """Return the instructions of the file in their order: name and arguments."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    return [line.split(" ", 1) for line in joined.splitlines() if line]


class Image:
    """What the instructions make, below a folder of its own."""

    def __init__(self, root):
        self.root = root
        self.environ = {}
        #: What an engine would need: FROM, USER, VOLUME, EXPOSE, HEALTHCHECK, CMD.
        self.kept = {}
        (root / "bin").mkdir()
        python = root / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        steps = {"WORKDIR": self.enter, "COPY": self.copy, "RUN": self.run, "ENV": self.set}
        for name, arguments in instructions():
            steps.get(name, partial(self.kept.__setitem__, name))(self.here(arguments))

    def here(self, text):
        """Return a text with each path of the image that it names below the folder."""
        return re.sub(r"(?<![\w.])/(?=opt/|var/)", f"{self.root}/", text)

    def enter(self, path):
        self.folder = Path(path)
        self.folder.mkdir(parents=True, exist_ok=True)

    def copy(self, arguments):
        *sources, target = arguments.split()
        if sources[0] == "--from=build":
            assert sources[1] == target  # it is there, as the stages share a root here
            return
        known = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", *sources],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert {name.split("/")[0] for name in known} == set(sources)
        for name in known:
            copied = self.folder / target / (name.partition("/")[2] if target != "./" else name)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copied)

    def run(self, command):
        assert 0 == self.status(["sh", "-ec", re.sub(r"-[og] 10001 ", "", command)])

    def set(self, arguments):
        self.environ |= dict(pair.split("=", 1) for pair in arguments.split())

    def process(self, command, port="8000"):
        """Return a command and the surroundings in which the image would run it."""
        path = f"{self.root}/bin:{os.environ['PATH']}"
        given = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        environ = given | {"PATH": path} | self.environ
        environ = {name: text.replace("8000", port) for name, text in environ.items()}
        return [text.replace("8000", port) for text in command], {
            "cwd": self.folder,
            "env": environ,
        }

    def status(self, command, port="8000"):
        """Return the exit status of a command that the image runs."""
        command, surroundings = self.process(command, port)
        return subprocess.run(command, **surroundings, timeout=300, check=False).returncode


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return Image(tmp_path_factory.mktemp("root"))


def test_it_serves_and_tells_its_health(image, site_at):
    """The command listens, the health check follows it up and down, the root stays as it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    check = json.loads(image.kept["HEALTHCHECK"].partition(" CMD ")[2])
    before = contents(image.folder)
    assert 0 != image.status(check, str(port))

    command, surroundings = image.process(json.loads(image.kept["CMD"]), str(port))
    process = subprocess.Popen(command, **surroundings)
    try:
        deadline = time.monotonic() + PATIENCE
        while image.status(check, str(port)):
            assert process.poll() is None
            assert time.monotonic() < deadline
        assert 200 == site_at(port)("GET", "/v1/models").status
        data = image.root / "var" / "lib" / "roster"
        assert {"roster.db", "admin-key"} <= {path.name for path in data.iterdir()}
        assert before == contents(image.folder)
    finally:
        process.terminate()
        assert 0 == process.wait(PATIENCE)


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_runs_as_nobody_in_particular(image):
    """A number, which an engine can tell from root; it owns the folder of the volume."""
    assert "10001:10001" == image.kept["USER"]
    assert f"{image.root}/var/lib/roster" == image.kept["VOLUME"]
    assert "install -d -m 0700 -o 10001 -g 10001 /var/lib/roster" in TEXT


def test_it_is_small(image):
    """Nothing of tests, measurements or tools lies in it."""
    assert {".venv", "LICENSE", "README.md", "app", "gunicorn.conf.py", "pyproject.toml"} | {
        "roster.egg-info",
        "setup.cfg",
        "wsgi.py",
    } == {path.name for path in image.folder.iterdir()}
    assert not [*image.folder.glob(".venv/bin/pip*")]
