"""`CONTRIBUTING.md` is true: what a recipe adds to a copy of the program works there.

`tests/dialects/test_made_up.py` is the test of the recipe for a dialect.
"""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from app import sources_of
from app.api.context import OPEN_BLUEPRINTS, Area
from app.sources import Sources
from app.sources.reading import read
from app.store import store
from tests.pages import ROOT, section

#: Sends requests to the program in the current folder; those to /admin with the first admin key.
ASK = """
import json, sys
from pathlib import Path
import app
from app.settings import Settings
assert Path(app.__file__).parents[1] == Path.cwd()
instance = Path(sys.argv[1])
roster = app.create_app(Settings(instance_path=instance))
key = (instance / "admin-key").read_text().strip()
answers = []
for method, path, body, headers in json.loads(sys.argv[2]):
    if path.startswith("/admin"):
        headers["Authorization"] = f"Bearer {key}"
    answer = roster.test_client().open(path, method=method, json=body, headers=headers)
    answers.append([answer.status_code, answer.json])
Path("answers.json").write_text(json.dumps(answers))  # access lines go to the output
"""
#: Requests for an entry in each dialect, and as administrators see it.
READS = [
    ("GET", "/v1/models", None, {}),
    ("GET", "/v1/models/x", None, {}),
    ("GET", "/v1/models", None, {"Anthropic-Version": "1"}),
    ("GET", "/v1beta/models", None, {}),
    ("GET", "/api/tags", None, {}),
    ("POST", "/api/show", {"model": "x"}, {}),
    ("GET", "/admin/models", None, {}),
]


class Program:
    """A copy of the program in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        files = ["git", "ls-files", "-co", "--exclude-standard", "app", "wsgi.py"]
        for name in subprocess.check_output(files, cwd=ROOT, text=True).split():
            if (ROOT / name).exists():  # it may be deleted, and not committed yet
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())

    def insert(self, path, line, text):
        """Insert a text before the one line that begins so."""
        self._change(path, rf"^(?={re.escape(line)})", text)

    def strike(self, path, line):
        """Remove the one line that begins so."""
        self._change(path, rf"^{re.escape(line)}.*\n", "")

    def _change(self, path, pattern, new):
        file = self.folder / path
        text, number = re.subn(pattern, lambda _: new, file.read_text(), flags=re.MULTILINE)
        assert 1 == number, f"{path}: {pattern}"
        file.write_text(text)

    def run(self, *command, **environ):
        """Run Python in the folder with these words."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROSTER_")}
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**inherited, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask(self, instance, *requests):
        """Return status and body of the answer to each request, on a database."""
        done = self.run("-c", ASK, instance, json.dumps(requests))
        assert 0 == done.returncode, done.stderr
        return json.loads((self.folder / "answers.json").read_text())


@pytest.fixture
def program(tmp_path):
    """A copy of the program, to be changed."""
    return Program(tmp_path / "program")


def lines(recipe, number=0):
    """Return the lines of Python that a recipe has, or those of its block with this number."""
    found = re.findall(r"```python\n(.*?) *```", section("CONTRIBUTING.md", recipe), re.DOTALL)
    return textwrap.dedent(found[number])


def test_a_setting_is_added_in_one_place(program):
    """The lines of the recipe add a setting: it is read, shown, and refused with its values."""
    field = textwrap.indent(lines("One more setting"), "    ")
    program.insert("app/settings.py", "    bind: ", field)
    good, bad = (
        program.run("-m", "flask", "config", "--json", ROSTER_EXAMPLE=text) for text in ("5", "0")
    )
    shown = {row["variable"]: row for row in json.loads(good.stdout)}["ROSTER_EXAMPLE"]

    assert (0, "") == (good.returncode, good.stderr)
    assert ("5", "environment") == (shown["value"], shown["source"])
    assert 0 != bad.returncode
    assert "ROSTER_EXAMPLE='0': must be 1 to 60 seconds" in bad.stderr


def test_a_field_is_added_in_two_lines(program, admin, settings):
    """They are enough to store, check, show and remove it, on a database of today."""
    program.insert(
        "app/catalog/model.py", "    metadata: ", "    made_up_field: str | None = None\n"
    )
    program.insert("app/schemas.py", "    metadata = ", "    made_up_field = Text()\n")
    stored = admin.add("x")
    (_, changed), *read, (status, error), (_, removed) = program.ask(
        settings.instance_path,
        ("PATCH", "/admin/models/x", {"made_up_field": "invented"}, {}),
        *READS,
        ("PATCH", "/admin/models/x", {"made_up_field": 5}, {}),
        ("PATCH", "/admin/models/x", {"made_up_field": None}, {}),
    )

    assert {**stored, "made_up_field": "invented", "revision": 3} == changed
    assert [True, True, False, False, False, False, True] == [
        "invented" in str(body) for _, body in read
    ]
    assert (422, "made_up_field") == (status, error["error"]["param"])
    assert {**stored, "revision": 4} == removed == admin("GET", "/admin/models/x").json


@pytest.mark.parametrize("field", ["metadata", "allow_fine_tuning"])
def test_a_program_without_a_field_keeps_it(program, admin, settings, field):
    """It answers lists, shows the field to nobody, and keeps it when it changes another one."""
    program.strike("app/catalog/model.py", f"    {field}: ")
    program.strike("app/schemas.py", f"    {field} = ")
    stored = admin.add("x", metadata={"a": "b"}, permission=[{"allow_fine_tuning": True}])
    answers = program.ask(
        settings.instance_path, *READS, ("PATCH", "/admin/models/x", {"name": "new"}, {})
    )
    read = admin("GET", "/admin/models/x").json

    assert [200] * len(answers) == [status for status, _ in answers]
    assert [] == [body for _, body in answers if field in str(body)]
    assert {**stored, "name": "new", "revision": 3} == read


@pytest.fixture
def add_route(app):
    """What adds the lines of the recipe at a path."""

    def add(path):
        added = {"__name__": "app.api.example"}
        exec(lines("One more route").replace("/admin/example", path), added)  # noqa: S102
        app.register_blueprint(added["blueprint"])

    return add


@pytest.mark.parametrize("path", ["/admin/example", "/v1/example", "/api/example", "/example"])
def test_a_route_is_closed(app, sign_in, add_route, path):
    """Wherever it is, it answers administrators alone."""
    add_route(path)
    admin = sign_in(app)
    admin.add("x", permission=[])
    reader = {"Authorization": f"Bearer {admin.new_key()}"}
    answer = admin("GET", path)

    assert (200, {"entries": 1}) == (answer.status_code, answer.json)
    assert "no-store" == answer.headers["Cache-Control"]
    assert (401, "missing_api_key") == refusal(app.test_client().get(path))
    assert (403, "insufficient_permissions") == refusal(
        app.test_client().get(path, headers=reader)
    )
    assert (405, "method_not_allowed") == refusal(admin("PUT", path, {}))
    assert (400, "invalid_value") == refusal(admin("GET", f"{path}?x=1"))


@pytest.mark.parametrize(("area", "status"), [(Area.PUBLIC, 401), (Area.OPERATION, 200)])
def test_a_route_is_opened_with_its_blueprint(client, add_route, monkeypatch, area, status):
    """For readers it needs no key but refuses a bad one; for operators it reads none."""
    add_route("/example")
    monkeypatch.setitem(OPEN_BLUEPRINTS, "example", area)

    assert {"entries": 0} == client.get("/example").json
    assert status == client.get("/example", headers={"Authorization": "Bearer x"}).status_code


@pytest.mark.databases("sqlite", "postgresql")
def test_a_query_is_a_method_of_the_store(app, admin):
    """The lines of the recipe read the database."""
    added = {**vars(store)}
    exec(lines("One more route", 1), added)  # noqa: S102
    newest = admin.add("x")["revision"]

    assert newest == added["newest_change"](app.extensions["roster"].store)


def test_a_source_is_one_file():
    """The lines of the recipe recognise a file beside all other formats, and give its rows."""
    added = {"__name__": "app.sources.fifth"}
    exec(lines("One more source"), added)  # noqa: S102
    sources = Sources(*sources_of(), added["Fifth"]())
    engines = [{"engine": "x", "window": 8192, "label": "X", "more": 1}, None]
    content = read(json.dumps({"engines": engines}).encode())
    row, odd = sources.choose(content).rows(content)

    assert (1, "x", {"context_length": 8192, "name": "X"}) == (row.place, row.id, row.fields)
    assert (2, None, {}) == (odd.place, odd.id, odd.fields)


def refusal(answer):
    """Return status and code of an error in OpenAI's dialect."""
    return answer.status_code, answer.json["error"]["code"]
