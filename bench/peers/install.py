"""Install peers on demand, and serve the same catalogue with them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from bench.catalogue import write_naive
from bench.client import fetch
from bench.load import Target
from bench.plan import ROOT
from bench.processes import Server, ServerFailed, free_port, process, wait_for_port

#: How long an installation may take, in seconds.
PATIENCE = 15 * 60.0

#: What is installed for each peer. LiteLLM is pinned to the last release before 1.107.0, which is
#: on PyPI no more, as 1.82.7 and 1.82.8 are not, which stole credentials
#: (https://github.com/BerriAI/litellm/issues/24518). What is newer, somebody has to look at first.
PACKAGES = {
    "FastAPI": ("fastapi", "uvicorn[standard]"),
    "LiteLLM": ("litellm[proxy]==1.106.2",),
}

#: LiteLLM is run with a key, as everybody does; the key of its administrator.
LITELLM_KEY = "sk-bench"


class PeerFailed(Exception):
    """A peer could not be installed or started; the message says why."""


@contextmanager
def fastapi(cache: Path, folder: Path, entries: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    """Serve the entries with FastAPI and pydantic, read from SQLite at each request."""
    python = _installed(cache / "fastapi", PACKAGES["FastAPI"])
    database = folder / "fastapi.db"
    write_naive(database, entries)
    port = free_port()
    command = [python, "-m", "uvicorn", "--port", str(port), "--no-access-log"]
    command += ["--log-level", "warning", "bench.peers.fastapi_app:app"]
    environ = {"BENCH_DATABASE": str(database), "PYTHONPATH": str(ROOT)}
    with _served(command, environ, folder / "fastapi.err", port) as server:
        yield _checked(Target(server), entries)


@contextmanager
def litellm(cache: Path, folder: Path, entries: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    """Serve the ids of the entries with the LiteLLM proxy."""
    python = _installed(cache / "litellm", PACKAGES["LiteLLM"])
    config = folder / "litellm.json"  # JSON is YAML
    models = [
        {
            "model_name": entry["id"],
            "litellm_params": {"model": f"openai/{entry['id']}", "api_key": "none"},
        }
        for entry in entries
    ]
    settings = {"master_key": LITELLM_KEY}
    config.write_text(json.dumps({"model_list": models, "general_settings": settings}))
    port = free_port()
    command = [python.with_name("litellm"), "--config", config, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _served(command, environ, folder / "litellm.err", port) as server:
        key = {"Authorization": f"Bearer {LITELLM_KEY}"}
        yield _checked(Target(server, headers=key), entries)


#: What serves a peer: the folder of its installation, a folder of its own, the entries.
PEERS: dict[str, Callable[..., AbstractContextManager[Target]]] = {
    "FastAPI": fastapi,
    "LiteLLM": litellm,
}


@contextmanager
def _served(
    command: Sequence[str | Path], environ: Mapping[str, str], err: Path, port: int
) -> Iterator[Server]:
    with process(command, err=err, environ=environ) as started:
        try:
            wait_for_port(started, err, port)
        except ServerFailed as error:
            raise PeerFailed(str(error)) from error
        yield Server(started.pid, port)


def _checked(target: Target, entries: Sequence[Mapping[str, Any]]) -> Target:
    """Return `target` if it lists all entries."""
    answer = fetch(target.server.port, target.path, target.headers)
    if answer.status != 200 or len(answer.json["data"]) != len(entries):
        raise PeerFailed(f"answered {answer.status}, {answer.body[:300]!r}")
    return target


def _installed(venv: Path, packages: Sequence[str]) -> Path:
    """Return the Python of an environment with `packages`; it is made only once."""
    python = venv / "bin" / "python"
    failed = venv / "failed"
    if failed.exists():
        raise PeerFailed(failed.read_text())
    if python.exists():
        return python
    sys.stderr.write(f"installing {' '.join(packages)}\n")
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for command in (
        [sys.executable, "-m", "venv", venv],
        [python, "-m", "pip", "install", "--quiet", *packages],
    ):
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=PATIENCE, env=environ
            )
        except (subprocess.SubprocessError, OSError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            sentence = f"could not be installed: {said[-1] if said else error}"
            venv.mkdir(exist_ok=True)
            failed.write_text(sentence)
            raise PeerFailed(sentence) from error
    return python
