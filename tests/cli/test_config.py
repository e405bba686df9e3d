"""``flask config``, and what all commands have in common."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask

from app.cli.terminal import echo_table
from app.settings import Settings

ROOT = Path(__file__).parent.parent.parent
VARIABLES = [setting.metadata["variable"] for setting in fields(Settings)]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings of whoever runs the tests out of the environment."""
    for name in [*os.environ]:
        if name.startswith(("ROSTER_", "WEB_CONCURRENCY", "FORWARDED_")):
            monkeypatch.delenv(name)


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args, **kwargs: runner.invoke(args=args, **kwargs)


def test_json(
    run: Callable[..., Result], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every setting is shown with its value and where it came from."""
    monkeypatch.setenv("ROSTER_THREADS", "4")

    done = run("config", "--json")

    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    assert 0 == done.exit_code
    assert VARIABLES == list(rows)
    assert ["variable", "value", "source", "meaning"] == list(rows["ROSTER_AUTH"])
    assert (str(settings.instance_path), "create_app()") == (
        rows["ROSTER_INSTANCE_PATH"]["value"],
        rows["ROSTER_INSTANCE_PATH"]["source"],
    )
    assert "environment" == rows["ROSTER_THREADS"]["source"]
    assert "default" == rows["ROSTER_AUTH"]["source"]


def test_table(run: Callable[..., Result]) -> None:
    """People get a table, one row for each setting."""
    done = run("config")

    lines = done.stdout.splitlines()
    assert ["VARIABLE", "VALUE", "SOURCE", "MEANING"] == lines[0].split()
    assert VARIABLES == [line.split()[0] for line in lines[1:]]
    assert "" == done.stderr


def test_nothing_opened(unopened_app: Flask, settings: Settings) -> None:
    """To show the settings makes no database."""
    done = unopened_app.test_cli_runner().invoke(args=["config"])

    assert 0 == done.exit_code
    assert not settings.instance_path.exists()


def test_unknown_variable(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown variable is one warning, beside the answer."""
    monkeypatch.setenv("ROSTER_PORT", "tcp://10.0.0.1:80")

    done = run("config", "--json")

    assert re.fullmatch(r"Warning: ROSTER_PORT is no setting .* ROSTER_\w+\.\n", done.stderr)
    assert VARIABLES == [row["variable"] for row in json.loads(done.stdout)]


def flask(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real ``flask`` where its users do."""
    inherited = {name: value for name, value in os.environ.items() if "FLASK" not in name}
    return subprocess.run(
        [Path(sys.executable).with_name("flask"), *args],
        cwd=ROOT,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_real(tmp_path: Path) -> None:
    """Without arguments or files, ``flask`` finds the application and its environment."""
    done = flask("config", "--json", ROSTER_INSTANCE_PATH=str(tmp_path), ROSTER_THREADS="9")

    rows = {row["variable"]: row["value"] for row in json.loads(done.stdout)}
    assert (0, "", "9") == (done.returncode, done.stderr, rows["ROSTER_THREADS"])


def test_another_encoding(run: Callable[..., Result], settings: Settings) -> None:
    """What a terminal's encoding lacks is escaped: no command fails after its change."""
    folder = str(settings.instance_path)
    run("models", "add", "x", "name=日本")
    variables = {"PYTHONIOENCODING": "latin-1", "ROSTER_INSTANCE_PATH": folder}
    changed = flask("models", "edit", "--q=x", "owned_by=acme", "--yes", **variables)
    listed = flask("models", "list", **variables)

    assert (0, "", 0, "") == (
        changed.returncode,
        changed.stderr,
        listed.returncode,
        listed.stderr,
    )
    assert "owned_by: custom \\u2192 acme" in changed.stdout
    assert "\\u65e5\\u672c" in listed.stdout


@pytest.mark.parametrize("command", ["config", "models", "run"])
def test_bad_settings(command: str) -> None:
    """Bad settings stop every command with a line for each of them and no traceback."""
    done = flask(command, ROSTER_THREADS="0", ROSTER_AUTH="on")

    assert (
        "Roster cannot start with these settings:\n"
        "ROSTER_AUTH='on': must be optional, required or off\n"
        "ROSTER_THREADS='0': must be 1 to 64 threads\n"
    ) == done.stderr
    assert (1, "") == (done.returncode, done.stdout)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def examples(run: Callable[..., Result], path: tuple[str, ...]) -> list[list[str]]:
    """Return the words of each example in the help of a command."""
    done = run(*path, "--help")
    lines = re.findall(r"^  Example: flask (.*)$", done.stdout, re.MULTILINE)
    assert (0, True) == (done.exit_code, lines != [])
    return [*map(shlex.split, lines)]


def test_commands(app: Flask) -> None:
    """These are all the commands."""
    assert {
        *(("models", name) for name in ("list", "show", "expiring", "add", "edit", "remove")),
        *(("models", name) for name in ("copy", "retire", "hide", "allow")),
        *(("models", name) for name in ("import", "export", "sources")),
        *(("models", name) for name in ("log", "undo", "revert")),
        *(("keys", name) for name in ("create", "list", "show", "edit", "revoke", "rotate")),
        *(("db", name) for name in ("upgrade", "status", "backup", "restore", "copy")),
        ("db", "prune-history"),
        ("config",),
    } == set(commands(app.cli))


def test_examples(
    app: Flask, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help of every command has an example that is spelt right."""
    monkeypatch.chdir(tmp_path)
    run("models", "add", "gpt-x")

    found = [(path, words) for path in commands(app.cli) for words in examples(run, path)]
    for path, words in found:
        done = run(*words)
        assert list(path) == words[: len(path)]
        # Exit code 1: an example may name what is not there, and this process has it open.
        assert done.exit_code == 0 or re.search(
            "does not exist|exists already|have the database open|connection to|no terminal|"
            "No line of the log|is at revision",
            done.stderr,
        )


def test_groups(app: Flask, run: Callable[..., Result]) -> None:
    """A group without a command lists its commands, each with a summary."""
    for name in ("models", "keys", "db"):
        done = run(name)
        listed = re.findall(r"^  (\w[\w-]*) +\S.*\.$", done.output, re.MULTILINE)
        assert set(app.cli.commands[name].commands) == set(listed)


@pytest.mark.parametrize(
    "command",
    [
        "models list",
        "models show x",
        "models expiring",
        "models add x",
        "models edit x name=X",
        "models remove x",
        "models copy x y",
        "models retire x --on 2027-03-31",
        "models edit x y name=X --yes",
        "models sources",
        "models export",
        "models remove --hidden --yes",
        "models hide x",
        "models allow x --organization acme",
        "keys list",
        "keys create x",
        "keys revoke 00000000",
        "keys rotate 00000000",
        "db backup copy.db",
    ],
)
def test_missing_database(
    unopened_app: Flask,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """A missing database is told in a sentence, and no command but an upgrade makes one."""
    monkeypatch.chdir(tmp_path)

    done = unopened_app.test_cli_runner().invoke(args=command.split())

    assert (
        "Error: There is no database instance/roster.db: "
        "a server's start and 'flask db upgrade' make one.\n"
    ) == done.stderr
    assert (1, "") == (done.exit_code, done.stdout)
    assert [] == list(tmp_path.iterdir())


def test_wide_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of a table is as wide as its widest cell; a dash is nothing."""
    rows: list[tuple[Any, ...]] = [("long cell", 0, None), ("", [], ["é", {"a": 1}])]

    echo_table(("A", "BEE", "C"), rows)

    assert (
        "A          BEE  C\n"
        "long cell  0    -\n"
        '-          -    ["é",{"a":1}]\n'
    ) == capsys.readouterr().out  # fmt: skip
