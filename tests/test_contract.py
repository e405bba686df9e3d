"""`docs/contract.md` is what the code does: its routes, codes, headers, settings and replies."""

import json
import re
from pathlib import Path

from app.api.catalogues import FLAGS
from app.api.context import MAX_PARAMETERS
from app.api.cors import EXPOSED
from app.api.errors import STATUS
from app.api.history import MAX_REVISIONS_HERE, PAGE
from app.api.http import MAX_BODY, MAX_LENGTH, MAX_LOOKUP
from app.api.isolated import MAX_BYTES_HERE, MAX_ENTRIES_HERE, TIMEOUT
from app.catalog.paging import MAX_LIMIT
from app.compression import SIZES
from app.schemas import AdminModelSchema
from app.settings import Settings
from app.sources.reading import MAX_FILE, MEDIA_TYPES
from tests.dialects.derived import parameters_of
from tests.pages import code
from tests.reference import REFERENCE, REFERENCE_ENTRY

CONTRACT = (Path(__file__).parents[1] / "docs" / "contract.md").read_text()


def section(title):
    """Return what the page says under a heading."""
    return CONTRACT.split(f"\n## {title}")[1].split("\n## ")[0]


def shown(title, prefix):
    """Return the JSON of the line that begins so, in a section."""
    [line] = [x for x in section(title).splitlines() if x.startswith(prefix + " ")]
    return json.JSONDecoder().raw_decode(line.removeprefix(prefix).strip())[0]


def test_every_route_is_named(app):
    """The page has each route with each of its methods, and no other."""
    named = set()
    for methods, path in re.findall(r"`((?:[A-Z]+, )*[A-Z]+) (/[^`\s]*)`", CONTRACT):
        named |= {(method, path) for method in methods.split(", ")}
    operation = {("GET", path) for path in re.findall(r"`(/(?:readyz|metrics|))`", CONTRACT)}
    routes = {
        (method, re.sub(r"<(path:)?\w+>", "<id>", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert routes == {(m, p) for m, p in named | operation if m not in {"HEAD", "OPTIONS"}}


def test_the_rules_for_dialects_are_those_of_the_code(app):
    """The page has the rules in their order; each names paths, headers or parameter, as code."""
    dialects = [*app.extensions["roster"].dialects]
    text = section("Choosing the dialect").replace("\n   ", " ")
    _, paths, *others, last = re.findall(r"^\d\. (.*?: .*)", text, re.MULTILINE)
    expected = []
    for dialect in dialects:
        names = [name.lower() for name in dialect.headers]
        if dialect.key_parameter is not None:
            names += [f"?{dialect.key_parameter}=", "Authorization"]
        if names:
            expected.append((type(dialect).__name__, names))

    assert expected == [
        (chosen.split(".")[0], code(signs))
        for signs, chosen in (rule.split(": ", 1) for rule in others)
    ]
    assert [(d.routes.prefix, type(d).__name__) for d in dialects if d.routes is not None] == (
        re.findall(r"path under `(\S+)`: (\w+)\.", paths)
    )
    assert f"Anything else: {type(dialects[-1]).__name__}." == last


def test_every_dialect_has_a_section(app):
    """It names the parameters of the dialect's list."""
    for dialect in app.extensions["roster"].dialects:
        text = re.sub("```.*?```", "", section(type(dialect).__name__), flags=re.DOTALL)

        assert parameters_of(dialect) <= {example.split("=")[0] for example in code(text)}


def test_every_code_is_named():
    """Each code of an error stands on the page."""
    assert [] == [code for code in STATUS if f"`{code}`" not in CONTRACT and code not in CONTRACT]


def test_every_field_is_named():
    """Each field of an entry is in the page."""
    assert [] == [name for name in AdminModelSchema().fields if f"`{name}" not in CONTRACT]


def test_the_headers_are_those_of_the_code(client):
    """`Vary` and what a page may read are written as they are sent."""
    assert f"`Vary: {client.get('/v1/models').headers['Vary']}`" in CONTRACT
    assert f"`Access-Control-Expose-Headers: {EXPOSED}`" in CONTRACT


def test_the_bounds_are_those_of_the_code():
    """Limits are written as the code has them."""
    text = " ".join(CONTRACT.split())

    assert f"More than {MAX_PARAMETERS} query parameters 400" in text
    assert f"Bodies up to {MAX_BODY // 1024} KiB" in text
    assert f"{MAX_LOOKUP // 1024} KiB at most" in section("Ollama")
    assert f"more than {MAX_LENGTH} characters accepts" in text
    assert f"{SIZES.start:,} bytes to {SIZES[-1] // 1024**2} MiB" in text
    assert f"up to {MAX_FILE // 1024**2} MiB" in text
    assert f"more than {MAX_BYTES_HERE // 1024} KiB, and an export" in text
    assert f"more than {MAX_ENTRIES_HERE} entries" in text
    assert f"more than {MAX_ENTRIES_HERE} revisions" in text
    assert f"over more than {MAX_REVISIONS_HERE:,}" in text
    assert f"`limit` is {PAGE} by default" in text
    assert f"takes more than {TIMEOUT} seconds" in text
    assert f"`limit` (1 to {MAX_LIMIT:,}, else 400)" in text


def test_plans_are_shown(admin):
    """A plan has the members that the page shows, and an import the media types and flags."""
    answer = admin("POST", "/admin/import", {"data": [{"id": "a"}]})
    plan = shown("Administration", "200")
    text = section("Administration")

    assert [*plan] == [*answer.json]
    assert [] == [name for name in (*MEDIA_TYPES, *FLAGS) if f"`{name}`" not in text]


def test_a_line_of_the_log_is_shown(admin):
    """It has the members that the page shows."""
    admin.add("x")
    [line] = admin("GET", "/admin/changes?limit=1").json["data"]

    assert [*shown("Administration", "item")] == [*line]


def test_every_setting_exists():
    """No variable is named that is no setting."""
    known = {f.metadata["variable"] for f in Settings.__dataclass_fields__.values()}

    assert set() == set(re.findall(r"ROSTER_[A-Z_]+", CONTRACT)) - known - {"ROSTER_"}


def test_the_list_of_openai_is_the_reference(client, admin):
    """The reference's entry is listed as the page shows it: as the reference has it, and more."""
    admin.add(**{"model_id": REFERENCE_ENTRY["id"], **REFERENCE_ENTRY})

    assert {"object": "list", **REFERENCE} == shown("OpenAI", "200")
    assert shown("OpenAI", "200") == client.get("/v1/models").json


def test_replies_of_the_other_dialects_are_shown(client, admin):
    """Lists of one entry and of none are as the page shows them."""
    headers = {"anthropic-version": "2023-06-01"}
    assert shown("Anthropic", "empty") == client.get("/v1/models", headers=headers).json
    admin.add("x", created=1626777600)
    assert shown("Anthropic", "200") == client.get("/v1/models", headers=headers).json
    facts = {
        "max_input_tokens": 120000,
        "max_output_tokens": 8192,
        "reasoning": {"mandatory": True},
    }
    admin("PATCH", "/admin/models/x", facts)
    [listed] = client.get("/v1beta/models").json["models"]
    assert shown("Gemini", "200")["models"] == [listed]
    assert shown("Ollama", "version") == client.get("/api/version").json
    assert shown("Ollama", "tags")["models"][0].keys() == (
        client.get("/api/tags").json["models"][0].keys()
    )


def test_errors_are_shown(client, admin):
    """Errors are as the page shows them."""
    reader = {"Authorization": f"Bearer {admin.new_key()}"}
    for title, status, path in (
        ("OpenAI", 404, "/v1/models/x"),
        ("OpenAI", 403, "/admin/models"),
        ("Gemini", 404, "/v1beta/models/x"),
    ):
        answer = client.get(path, headers=reader)

        assert (status, shown(title, str(status))) == (answer.status_code, answer.json)
