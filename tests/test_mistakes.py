"""Mistakes that people make, and the whole sentence that each of them gets.

A sentence says what was got, what is wanted and, where that is not clear, what to do. Whoever
changes one reads it here as a stranger would. What a field, a key or a file may be has its own
tests.
"""

# ruff: noqa: E501 - a sentence in one line is found by whoever searches for it

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from app.settings import Settings
from tests.conftest import Admin, Clock

#: Arguments, exit code, and what is printed behind ``Error:``.
COMMANDS = [
    (
        "db copy postgresql://roster:p#w@db/roster",
        2,
        "Invalid value for URL: Must be sqlite:///PATH or postgresql://…; in user and password, characters such as @, :, /, ? and # are written as %40, %3A, %2F, %3F and %23",
    ),
    (
        "db copy sqlite:///FOLDER/roster.db",
        1,
        "The URL names the database itself: name the file that is to be made.",
    ),
]


def _remove(folder: Path) -> None:
    (folder / "roster.db").unlink()


def _write_text(folder: Path) -> None:
    (folder / "roster.db").write_text("no database at all" * 100)


def _link(folder: Path) -> None:
    os.link(folder / "roster.db", folder / "other.db")


def _replace_by_file(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.touch()


#: What becomes of the folder or the database before ``flask models list``, and what that prints.
FOLDERS = [
    (
        _remove,
        "There is no database FOLDER/roster.db: a server's start and 'flask db upgrade' make one.",
    ),
    (
        _write_text,
        "The database FOLDER/roster.db is damaged (file is not a database): 'flask db restore FILE' puts a backup in its place.",
    ),
    (
        _link,
        "FOLDER/roster.db has a second name: find it with 'find / -xdev -samefile FOLDER/roster.db', and remove that one.",
    ),
    (
        _replace_by_file,
        "FOLDER is no folder, and cannot be made one (Not a directory): name another one, with ROSTER_INSTANCE_PATH or ROSTER_DATABASE_URL.",
    ),
]


def test_commands(admin: Admin, app: Flask, settings: Settings) -> None:
    """A refused command ends with its exit code and a whole sentence, and changes nothing."""
    admin.add("x", aliases=["nick"])
    names = {"KID": admin.key[3:11], "FOLDER": str(settings.instance_path)}
    runner = app.test_cli_runner()
    got = []
    for line, *_ in COMMANDS:
        words = [_named(word, names) for word in shlex.split(line)]
        done = runner.invoke(args=words)
        _, _, sentence = done.stderr.rpartition("Error: ")
        got.append((line, done.exit_code, sentence.rstrip("\n"), done.stdout))

    assert [(line, code, _named(text, names), "") for line, code, text in COMMANDS] == got
    assert ["x"] == [entry["id"] for entry in admin("GET", "/admin/models").json["data"]]


@pytest.mark.parametrize(("spoil", "sentence"), FOLDERS)
def test_folders(
    prepared: Path, settings: Settings, clock: Clock, spoil: Callable[[Path], None], sentence: str
) -> None:
    """A folder or database that cannot be used is named, with what to do about it."""
    folder = settings.instance_path
    folder.mkdir()
    for file in prepared.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    spoil(folder)
    app = create_app(settings, clock)

    done = app.test_cli_runner().invoke(args=["models", "list"])

    app.extensions["roster"].store.close()
    expected = f"Error: {_named(sentence, {'FOLDER': str(folder)})}\n"
    assert (1, "", expected) == (done.exit_code, done.stdout, done.stderr)


def _named(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text
