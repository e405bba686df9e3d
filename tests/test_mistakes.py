"""Mistakes that people make, and the whole sentence that each of them gets.

A sentence says what was got, what is wanted and, where that is not clear, what to do. Whoever
changes one reads it here as a stranger would. What a field, a key or a file may be has its own
tests.
"""

# ruff: noqa: E501 - a sentence in one line is found by whoever searches for it

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app import create_app
from app.settings import Settings, SettingsError
from tests.conftest import Admin, Clock

#: A key that nobody has.
KEY = "ro_7fGh2kLm_0123456789abcdefghijklmnopqrstuvXYZ123"

SETTINGS = [
    ("ROSTER_INSTANCE_PATH", "", "must be a folder"),
    (
        "ROSTER_DATABASE_URL",
        "roster.db",
        "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME",
    ),
    (
        "ROSTER_DATABASE_URL",
        "postgresql://roster:p#w@db/roster",
        "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME; in user and password, characters such as @, :, /, ? and # are written as %40, %3A, %2F, %3F and %23",
    ),
    ("ROSTER_AUTH", "true", "must be optional, required or off"),
    ("ROSTER_OLLAMA_AUTH", "off", "must be the word optional, or unset"),
    (
        "ROSTER_PUBLIC_KEYS",
        "schlüssel",
        "must be ASCII words of fewer than 32 characters, separated by commas, and no keys",
    ),
    ("ROSTER_ADMIN_KEY_FILE", KEY, "must be a file with the key, not the key itself"),
    (
        "ROSTER_CORS_ORIGINS",
        "https://a.example/",
        "must be * or origins, separated by commas; 'https://a.example/' ends with a slash: write https://a.example",
    ),
    ("ROSTER_MAX_STALE", "10m", "must be 1 or more seconds"),
    ("ROSTER_BIND", "8000", "must be HOST:PORT or unix:PATH"),
    ("ROSTER_BIND", "127.0.0.1:80000", "must be HOST:PORT or unix:PATH"),
    ("WEB_CONCURRENCY", "abc", "must be 1 to 64 processes"),
    (
        "FORWARDED_ALLOW_IPS",
        "10.0.0.1/8",
        "must be * or addresses and networks, separated by commas; '10.0.0.1/8' is an address in a network: write 10.0.0.0/8",
    ),
]

MODELS = "/admin/models"
KEYS = "/admin/keys"
#: Method, path, body, headers, status and message. An empty Authorization is no admin key.
REQUESTS: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("POST", MODELS, "", {}, 400, "The text is empty: it must be a JSON object."),
    (
        "POST",
        MODELS,
        '{"id": "y",}',
        {},
        400,
        "The text is not JSON: Expecting property name enclosed in double quotes at line 1 column 12.",
    ),
    ("POST", MODELS, [{"id": "y"}], {}, 400, "The text must be a JSON object, not an array."),
    (
        "POST",
        MODELS,
        '\ufeff{"id": "y"}',
        {},
        400,
        "The text begins with a byte order mark: save it as UTF-8 without one.",
    ),
    (
        "POST",
        MODELS,
        '{"id": "y", "id": "z"}',
        {},
        400,
        "The key 'id' appears twice in one object.",
    ),
    (
        "POST",
        MODELS,
        "id=y",
        {"Content-Type": "application/x-www-form-urlencoded"},
        415,
        "Send JSON with 'Content-Type: application/json', not 'application/x-www-form-urlencoded'.",
    ),
    ("POST", MODELS, {}, {}, 422, "id: Missing: every model needs an id."),
    (
        "POST",
        MODELS,
        {"id": "/y"},
        {},
        422,
        "id: Must not begin with a slash: leave it out, and write a path for people in 'name'.",
    ),
    (
        "POST",
        MODELS,
        {"id": "müller"},
        {},
        422,
        "id: Must have ASCII characters alone, not 'ü': 'name' takes all letters.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "contextlength": 8192},
        {},
        422,
        "contextlength: Unknown field; is 'context_length' meant?",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "context_length": "8192"},
        {},
        422,
        "context_length: Must be a whole number, not the text '8192'.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "context_length": 8192, "max_model_len": 4096},
        {},
        422,
        "max_model_len: Contradicts context_length, which is 8192: send one of them.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "pricing": {"prompt": 0.1}},
        {},
        422,
        'pricing.prompt: Must be a string such as "0.0000025", not 0.1.',
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "pricing": {"prompt": "$2"}},
        {},
        422,
        "pricing.prompt: Must be a decimal string like \"0.0000025\", not the text '$2'.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "type": "llm"},
        {},
        422,
        "type: Must be one of: language, embedding, image, video, speech, transcription, rerank, moderation; not the text 'llm'.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "permission": [{"organisation": "acme"}]},
        {},
        422,
        "permission.0.organisation: Unknown field; is 'organization' meant?",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "created": "2027-01-31"},
        {},
        422,
        "created: Must be a whole number of Unix seconds, not the text '2027-01-31': that is 1801353600.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "created": 1_700_000_000_000},
        {},
        422,
        "created: Must be between 0 and 4294967295 Unix seconds, not 1700000000000.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "shutdown_date": "31.01.2027"},
        {},
        422,
        "shutdown_date: Must be a date like 2027-01-31, not '31.01.2027'.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "shutdown_date": 1_800_000_000},
        {},
        422,
        "shutdown_date: Must be a date like 2027-01-31, not 1800000000.",
    ),
    (
        "POST",
        MODELS,
        {"id": "y", "deprecation": "2027-01-31"},
        {},
        422,
        "deprecation: Must be an RFC 3339 time like 2027-01-31T00:00:00Z, not '2027-01-31'.",
    ),
    ("POST", MODELS, {"id": "nick"}, {}, 409, "The model 'nick' is an alias of 'x' already."),
    (
        "PATCH",
        f"{MODELS}/nick",
        {"name": "X"},
        {},
        404,
        "The model 'nick' does not exist: it is an alias, use 'x' instead",
    ),
    (
        "PATCH",
        f"{MODELS}/x",
        {"owned_by": None},
        {},
        422,
        "owned_by: Must not be null: leave the field out, or give it a value.",
    ),
    (
        "PUT",
        f"{MODELS}/x",
        {"id": "x"},
        {"If-Match": "2"},
        412,
        'The precondition does not hold: the model is at revision "2". Read it again; If-Match has these quotes, too.',
    ),
    (
        "GET",
        f"{MODELS}?limit=5000",
        None,
        {},
        400,
        "'limit' must be a whole number from 1 to 1000, not '5000'.",
    ),
    ("POST", KEYS, {}, {}, 422, "name: Missing: describe what the key is for."),
    (
        "POST",
        KEYS,
        {"name": "y", "expires_at": "90d"},
        {},
        422,
        "expires_at: Must be a whole number of Unix seconds, not the text '90d'.",
    ),
    (
        "POST",
        KEYS,
        {"name": "y", "organization": "*"},
        {},
        422,
        "organization: Must name one organization; '*' is for entries.",
    ),
    (
        "DELETE",
        f"{KEYS}/billing",
        None,
        {},
        404,
        "'billing' is not the id of a key: the list of keys has the ids.",
    ),
    (
        "GET",
        "/v1/models",
        None,
        {"Authorization": KEY},
        401,
        "Incorrect API key provided: ***. Authorization has no scheme: send 'Authorization: Bearer KEY'.",
    ),
    (
        "GET",
        "/v1/models",
        None,
        {"Authorization": f"Bearer Bearer {KEY}"},
        401,
        "Incorrect API key provided: ***. Authorization has 'Bearer' twice: send 'Authorization: Bearer KEY'.",
    ),
    (
        "GET",
        "/v1/models",
        None,
        {"Authorization": f"Bearer '{KEY}'"},
        401,
        "Incorrect API key provided: 'ro_***. Authorization has quotes around the key: send the key alone.",
    ),
    (
        "GET",
        MODELS,
        None,
        {"Authorization": "", "X-Api-Key": KEY},
        401,
        "No API key was provided: send it as 'Authorization: Bearer KEY'.",
    ),
    (
        "GET",
        MODELS,
        None,
        {"Authorization": "Bearer READER"},
        403,
        "This key may not administer the catalogue: it lacks the scope 'admin'.",
    ),
    (
        "GET",
        "/v1/v1/models",
        None,
        {"Authorization": ""},
        404,
        "Unknown URL: GET /v1/v1/models. The list of models is at /v1/models: check the base URL of the client.",
    ),
    (
        "POST",
        "/v1/chat/completions",
        {},
        {"Authorization": ""},
        404,
        "Unknown URL: POST /v1/chat/completions. Roster only lists models, at /v1/models: send this request to a gateway or a model server.",
    ),
]

#: Arguments, exit code, and what is printed behind ``Error:``. KID is the id of the admin key.
COMMANDS = [
    (
        "models rename x y",
        2,
        "No such command 'rename'. 'flask models copy ID NEW' makes an entry with another id.",
    ),
    ("models add y name", 2, "'name' is not of the form FIELD=VALUE."),
    (
        "models add y context_length=8k",
        1,
        "context_length: Must be JSON, such as 8192 or [\"text\"], not the text '8k'.",
    ),
    (
        "models edit x id=y",
        1,
        "id: Cannot change. 'flask models copy x y' makes another entry like it.",
    ),
    (
        "models edit x id=-y",
        1,
        "id: Cannot change. 'flask models copy -- x -y' makes another entry like it.",
    ),
    (
        "models edit x id=null",
        1,
        "id: Must be left out or equal to the id in the path.",
    ),
    (
        "models edit x --unset permission",
        1,
        "permission: Cannot be unset, because every entry has it: set another value. 'flask models hide ID' shows the entry to nobody.",
    ),
    (
        "models retire x --on soon",
        1,
        "shutdown_date: Must be a date like 2027-01-31, an RFC 3339 time or Unix seconds, not the text 'soon'.",
    ),
    (
        "models retire x --on 2027-03-31 --use nick",
        1,
        "deprecation_replacement_model: Must not lead back to this entry: nick.",
    ),
    (
        "keys create y --expires 90",
        2,
        "Invalid value for '--expires' / '--expires-in': '90' is no time: give a day like 2027-01-31, an RFC 3339 time like 2027-01-31T08:00:00Z, Unix seconds, or a span from now such as 90d, 24h, 30m or 45s.",
    ),
    (
        "keys create y --expires 2020-01-01",
        1,
        "expires_at: Must be in the future, not 1577836800 (Unix seconds), which is 2020-01-01T00:00:00Z.",
    ),
    (
        f"keys show {KEY}",
        1,
        "'ro_7fGh2kLm_***' is a key and not the id of one: its id is 7fGh2kLm.",
    ),
    (
        "keys revoke KID",
        1,
        "The key 'KID' is the last active admin key: make another one first. To revoke it nevertheless, send '?last=1' or give '--yes' on the command line.",
    ),
    (
        "keys edit KID --group a --unset groups",
        2,
        "'groups' is both given and unset: do one of them.",
    ),
    (
        "keys rename KID y",
        2,
        "No such command 'rename'. 'flask keys edit ID --name NAME' renames a key.",
    ),
    (
        "keys rotate KID --grace soon",
        2,
        "Invalid value for '--grace': 'soon' is no time span such as 90d, 24h, 30m or 45s.",
    ),
    ("db backup FOLDER/roster.db", 1, "FOLDER/roster.db exists already; it is left as it is."),
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


@pytest.mark.parametrize(("variable", "text", "sentence"), SETTINGS)
def test_settings(variable: str, text: str, sentence: str) -> None:
    """A wrong setting is named with its value and with what it must be."""
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({variable: text})

    shown = text.replace(KEY[12:], "***").replace("p#w", "***")
    assert f"{variable}={shown!r}: {sentence}" == str(refusal.value)


def test_requests(admin: Admin, app: Flask) -> None:
    """A refused request gets its status and a whole sentence, and changes nothing."""
    admin.add("x", aliases=["nick"])
    reader = admin.new_key()
    got = []
    for method, path, body, headers, *_ in REQUESTS:
        sent = {"Authorization": f"Bearer {admin.key}", "Content-Type": "application/json"}
        sent |= {n: v.replace("READER", reader) for n, v in headers.items() if v}
        if headers.get("Authorization") == "":
            del sent["Authorization"]
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        answer = app.test_client().open(path, method=method, headers=sent, data=data)
        got.append(
            (method, path, body, headers, answer.status_code, answer.json["error"]["message"])
        )

    assert REQUESTS == got
    assert ["x"] == [entry["id"] for entry in admin("GET", MODELS).json["data"]]


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
    assert ["x"] == [entry["id"] for entry in admin("GET", MODELS).json["data"]]


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
