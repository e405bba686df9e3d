"""The house is in order: imports point down, types and style hold, the wheel has everything."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

#: Words that were metaphors here. Each has a term of the field: counter, lock, cache, boundary.
# The report of an import has a member `kept`.
METAPHORS = re.compile(
    r"(?<![A-Za-z])(bells?|stretch(es)?|places|boards?|stands?|stood|said|told|kept(?![:\"=]| =)"
    r"|look(s|ed|ing)?(?!s?[ _-]?up)|doors?|turn(s|ed)?)(?![A-Za-z])",
    re.IGNORECASE,
)


def run(*command, cwd=ROOT):
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "command", ["lint-imports --no-cache", "mypy", "ruff check .", "ruff format --check ."]
)
def test_the_checkers_are_content(command):
    """The import contract, strict types, lint and format hold for the whole tree."""
    program, *options = command.split()
    done = run(BIN / program, *options)

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """A copy of what the import contract reads, to break it."""
    files = run("git", "ls-files", "-co", "--exclude-standard", "app", "setup.cfg").stdout.split()
    for name in files:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "contract"),
    [
        ("app/utils.py", "", "Imports point down"),
        ("app/catalog/extra.py", "import app.schemas", "Imports point down"),
        ("app/store/extra.py", "import app.dialects", "Imports point down"),
        ("app/catalog/extra.py", "import flask", "standard library only"),
        ("app/schemas_extra/__init__.py", "", "Imports point down"),
        ("app/store/extra.py", "import flask", "Flask stays"),
        ("app/api/extra.py", "import sqlalchemy", "SQL stays"),
        ("app/dialects/extra.py", "import app.dialects.openai", "No dialect knows another"),
        ("app/dialects/encoding.py", "import app.dialects.openai", "No dialect knows another"),
        ("app/dialects/parameters.py", "import app.dialects.openai", "No dialect knows another"),
        ("app/sources/extra.py", "import app.sources.openai", "No source knows another"),
        ("app/sources/values.py", "import app.sources.openai", "No source knows another"),
        ("app/sources/extra.py", "import app.store", "Imports point down"),
        ("app/sources/extra.py", "import click", "Flask stays"),
        ("app/sources/extra.py", "import sqlalchemy", "SQL stays"),
        ("app/api/extra.py", "from app import create_app", "Nothing imports the factory"),
    ],
)
def test_the_import_contract_can_fail(copy, name, text, contract):
    """Each direction of the contract is broken by one wrong import."""
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text(text + "\n")
    done = run(BIN / "lint-imports", "--no-cache", cwd=copy)
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]

    assert 1 == done.returncode, done.stdout + done.stderr
    assert any(contract in line for line in broken), done.stdout


def test_the_code_is_in_plain_words():
    """No name, docstring, comment or message of the application has one of the metaphors."""
    files = [*(ROOT / "app").rglob("*.py"), ROOT / "gunicorn.conf.py"]
    found = {
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in METAPHORS.finditer(line)
    }

    assert set() == found


@pytest.mark.slow  # pip takes what builds it from a package index
def test_the_wheel_has_every_module(tmp_path):
    """A wheel holds each module of the application, migrations too, and no test."""
    files = run("git", "ls-files", "-co", "--exclude-standard").stdout.splitlines()
    source = tmp_path / "source"
    for name in files:
        if name.startswith("app/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    built = run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        tmp_path,
        source,
        cwd=tmp_path,
    )
    assert 0 == built.returncode, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert {name for name in files if name.startswith("app/")} == packed
