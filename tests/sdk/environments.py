"""Where the clients live: each kind in an environment of its own, made when first needed."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.needs import lacking

HERE = Path(__file__).parent
#: The package of each vendor's Python client.
PACKAGES = {
    "anthropic": "anthropic",
    "gemini": "google-genai",
    "ollama": "ollama",
    "openai": "openai",
}


class Environments:
    """Interpreters with the official clients; they stay in the folder `cache` between runs."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        #: Why a folder could not be filled.
        self._missing: dict[Path, str] = {}

    def driver(self, vendor: str, edition: str) -> list[Path]:
        """Return the command that runs the driver of a vendor's client."""
        if edition == "javascript":
            node, folder = self.node()
            # A script finds the packages that lie beside it.
            shutil.copytree(HERE / "drivers", folder / "drivers", dirs_exist_ok=True)
            return [node, folder / f"drivers/{vendor}_sdk.mjs"]
        python = self.older_python() if edition == "older" else Path(sys.executable)
        return [python, HERE / f"drivers/{vendor}_sdk.py"]

    def older_python(self) -> Path:
        """Return the interpreter that has the older clients; the tests' own has the newest."""
        return self._python("older")

    def hermes(self) -> Path:
        """Return the interpreter that has hermes-agent, and what its reading of lists imports.

        All that it wants is ten times as much, and none of it reads a list.
        """
        return self._python("hermes", "--no-deps", beside=("httpx", "pyyaml", "requests"))

    def programs(self) -> Path:
        """Return the interpreter that has programs of others; ``llm`` lies beside it."""
        return self._python("programs")

    def claude_code(self) -> Path:
        """Return the program of Claude Code, which brings all that it runs on: 400 MB."""
        folder = self._npm("claude-code", HERE / "claude_code.json")
        [program] = folder.glob("node_modules/@anthropic-ai/claude-code-linux-*/claude")
        return program

    def _python(self, name: str, *options: str, beside: tuple[str, ...] = ()) -> Path:
        """Return the interpreter that has what a file lists, and other packages `beside` that."""
        listing = HERE / f"{name}.txt"
        folder = self._folder(name, listing)
        python = folder / "bin/python"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "--retries=1", "install"]
        self._fill(
            folder,
            [sys.executable, "-m", "venv", "--clear", folder],
            [*pip, *options, "-r", listing],
            *([[*pip, *beside]] if beside else []),
        )
        return python

    def node(self) -> tuple[Path, Path]:
        """Return a Node that the JavaScript clients run on, and the folder that has them."""
        folder = self._npm("node", HERE / "package.json")
        [node] = folder.glob("node_modules/node-linux-*/bin/node")
        return node, folder

    def _npm(self, name: str, listing: Path) -> Path:
        """Return the folder that has the packages of a file."""
        folder = self._folder(name, listing)
        shutil.copy(listing, folder / "package.json")
        # No package needs its scripts run. Node's own has one for each kind of machine.
        quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
        brief = ["--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        self._fill(folder, ["npm", "install", *quiet, *brief])
        return folder

    def _folder(self, name: str, listing: Path) -> Path:
        """Return a folder that is another one when something else belongs in it."""
        made_of = hashlib.sha256(listing.read_bytes() + sys.version.encode())
        folder = self._cache / f"{name}-{made_of.hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        return folder

    def _fill(self, folder: Path, *commands: list[str | Path]) -> None:
        """Run what fills `folder`, if nothing has yet; a test that cannot have it is skipped."""
        filled = folder / ".filled"
        if filled.exists():
            return
        for command in commands:
            if folder not in self._missing:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
                )
                if done.returncode:
                    self._missing[folder] = done.stderr.strip()
        if folder in self._missing:  # tried once: the next test need not wait for the same
            lacking(f"The clients could not be installed:\n{self._missing[folder]}")
        filled.touch()
