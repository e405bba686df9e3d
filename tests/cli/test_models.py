"""``flask models``: the entries of the catalogue, from the terminal."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from app.catalog.model import Model
from app.names import MIRRORS
from tests.conftest import Admin
from tests.sql import run_sql

BOTH = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args, **kwargs: runner.invoke(args=args, **kwargs)


def shown(run: Callable[..., Result], model_id: str) -> dict[str, Any]:
    return json.loads(run("models", "show", model_id, "--json").stdout)


def test_add(run: Callable[..., Result]) -> None:
    """An entry is added with text as it is and JSON for what is not text."""
    done = run("models", "add", "x", "name=7", "context_length=8192", "supported_parameters=[]")

    assert (0, "Added x at revision 2.\n", "") == (done.exit_code, done.stdout, done.stderr)
    entry = shown(run, "x")
    assert ("7", 8192, []) == (
        entry["name"],
        entry["context_length"],
        entry["supported_parameters"],
    )
    assert ("custom", 1_800_000_000, 2) == (entry["owned_by"], entry["created"], entry["revision"])


def test_add_json(run: Callable[..., Result]) -> None:
    """With --json, add prints the entry as it is stored."""
    done = run("models", "add", "x", "name=a=b", "--json")

    assert shown(run, "x") == json.loads(done.stdout)
    assert "a=b" == shown(run, "x")["name"]


def test_add_file(run: Callable[..., Result], tmp_path: Path) -> None:
    """Fields come from a file or standard input, and assignments go before them."""
    (tmp_path / "fields.json").write_text('{"name": "file", "owned_by": "acme"}')

    assert 0 == run("models", "add", "x", "--file", tmp_path / "fields.json", "name=X").exit_code
    assert 0 == run("models", "add", "y", "--file", "-", input='{"created": 5}').exit_code

    assert ("X", "acme") == (shown(run, "x")["name"], shown(run, "x")["owned_by"])
    assert 5 == shown(run, "y")["created"]


def test_what_is_shown_is_added_with_a_change(run: Callable[..., Result]) -> None:
    """An entry is copied to a new id with another value of a fact that has several names."""
    run("models", "add", "x", "context_length=8192", "max_output_tokens=5")
    shown = run("models", "show", "x", "--json").stdout
    copy = ("models", "add", "y", "--file", "-", "id=y", "root=y", "--json")
    added = json.loads(run(*copy, "context_length=4096", input=shown).stdout)
    changed = shown.replace('"context_length":8192', '"context_length":1024')
    edited = json.loads(run("models", "edit", "x", "--file", "-", "--json", input=changed).stdout)

    names = ("context_length", "max_model_len", "max_completion_tokens")
    assert [(4096, 4096, 5), (1024, 1024, 5)] == [
        tuple(entry[name] for name in names) for entry in (added, edited)
    ]


@BOTH
def test_list(run: Callable[..., Result]) -> None:
    """The list has all entries in order, hidden ones too, or those of an owner or a word."""
    run("models", "add", "b", "created=0", "owned_by=acme", "permission=[]")
    run("models", "add", "a", "created=60", "name=Big", "shutdown_date=2027-03-31")

    assert (
        "ID  NAME  OWNED BY  SEEN BY   RETIRES\n"
        "a   Big   custom    everyone  2027-03-31T00:00:00Z\n"
        "b   -     acme      nobody    -\n"
    ) == run("models", "list").stdout
    assert [shown(run, "a"), shown(run, "b")] == json.loads(
        run("models", "list", "--json").stdout
    )["data"]
    for option, model_id in (("--owned-by=acme", "b"), ("--q=bIG", "a")):
        [entry] = json.loads(run("models", "list", option, "--json").stdout)["data"]
        assert model_id == entry["id"]


def test_list_filters(run: Callable[..., Result]) -> None:
    """Each filter of the HTTP route is an option; what is no value is refused."""
    run("models", "import", "-", "--yes", "--source=s", "--format=ids", input="e\n")
    run("models", "add", "a", "context_length=8192", 'tags=["t"]', "type=language")
    run("models", "add", "b", "shutdown_date=2027-01-31", 'supported_parameters=["tools"]')
    run("models", "add", "c", 'permission=[{"organization":"acme","group":"g"}]')
    run("models", "add", "d", "permission=[]")

    def listed(*options: str) -> str:
        done = run("models", "list", "--json", *options)
        return "".join(entry["id"] for entry in json.loads(done.stdout)["data"])

    expected = {
        "--type=language": "a",
        "--supports=tools": "b",
        "--min-context=8192": "a",
        "--tag=t": "a",
        "--source=s": "e",
        "--lifecycle=active": "abcde",
        "--visible-to=acme/g": "abce",
        "--hidden": "d",
        "--visible": "abce",
        "--retiring-before=2027-02-01": "b",
    }
    assert expected == {option: listed(option) for option in expected}
    assert "abcde" == listed()
    assert "c" == listed("--visible-to=acme/g", "--lifecycle=active", "--q=C")
    assert "" == listed("--type=unknown")

    refused = run("models", "list", "--min-context=many")
    assert (1, "") == (refused.exit_code, refused.stdout)
    assert "Error: --min-context must be a whole number, not 'many'.\n" == refused.stderr


def test_expiring(run: Callable[..., Result], clock: Any) -> None:
    """What retires within so many days is listed, the soonest first, hidden or not."""
    none = run("models", "expiring")
    run("models", "add", "a", "shutdown_date=2027-02-14", "name=A", "owned_by=acme")
    run("models", "add", "b", "shutdown_date=2027-01-31", "permission=[]")
    run("models", "add", "c", "shutdown_date=2027-01-15")
    run("models", "add", "d", "shutdown_date=2027-02-15")
    run("models", "add", "e")
    run("models", "edit", "b", "deprecation_replacement_model=a")
    shown = run("models", "expiring").stdout

    assert (0, "No entry retires within 30 days.\n") == (none.exit_code, none.stdout)
    assert (
        "ID  NAME  OWNED BY  RETIRES               REPLACEMENT\n"
        "b   -     custom    2027-01-31T00:00:00Z  a\n"
        "a   A     acme      2027-02-14T00:00:00Z  -\n"
    ) == shown

    def ids(days: int) -> str:
        done = run("models", "expiring", f"--days={days}", "--json")
        return "".join(entry["id"] for entry in json.loads(done.stdout)["data"])

    assert ["", "b", "bad"] == [ids(days) for days in (15, 16, 31)]

    clock.now += 24 * 60 * 60

    assert "b" == ids(15)
    assert 2 == run("models", "expiring", "--days=0").exit_code


def test_list_as_a_reader(run: Callable[..., Result], app: Flask, admin: Admin) -> None:
    """With --as the list is that of a reader: in JSON the bytes that their key gets."""
    run("models", "add", "b", "created=60", 'permission=[{"organization":"acme","group":"g"}]')
    run("models", "add", "a", "created=0", "permission=[{},{}]", "root=hidden", "name=é")
    run("models", "add", "hidden", "permission=[]")
    key = admin.new_key(organization="acme", groups=["g"])
    got = app.test_client().get("/v1/models", headers={"x-api-key": key}).text

    assert got == run("models", "list", "--as=acme/g", "--json").stdout.rstrip("\n")
    assert (
        "ID  OWNED BY  CREATED\n"
        "a   custom    1970-01-01T00:00:00Z\n"
        "b   custom    1970-01-01T00:01:00Z\n"
    ) == run("models", "list", "--as=acme/g").stdout
    assert "b " not in run("models", "list", "--as=acme").stdout
    searched = json.loads(run("models", "list", "--as=acme/g", "--q=B", "--json").stdout)
    assert ["b"] == [item["id"] for item in searched["data"]]

    refused = run("models", "list", "--as=acme", "--visible")
    assert (2, True) == (refused.exit_code, "--owned-by and --q" in refused.stderr)


def test_empty_list(run: Callable[..., Result]) -> None:
    """An empty catalogue is a heading alone, and in JSON an empty list."""
    assert "ID  NAME  OWNED BY  SEEN BY  RETIRES\n" == run("models", "list").stdout
    assert '{"object":"list","data":[]}\n' == run("models", "list", "--json").stdout


def test_show(run: Callable[..., Result]) -> None:
    """An entry is shown as a table of its fields, a dash for what is empty."""
    run("models", "add", "x", "description=", 'pricing={"prompt": "0.5"}')

    rows = dict(line.split(None, 1) for line in run("models", "show", "x").stdout.splitlines())

    assert "VALUE" == rows["FIELD"]
    assert ("x", "-", "-", '{"prompt":"0.5"}') == tuple(
        rows[name] for name in ("id", "parent", "description", "pricing")
    )


def test_edit(run: Callable[..., Result]) -> None:
    """An edit changes what it names and leaves the rest."""
    run("models", "add", "x", "name=X", "description=old", "owned_by=acme")

    done = run("models", "edit", "x", "name=Y", "--unset", "description")

    undo = "To undo it: flask models undo --revision 3\n"
    assert f"Changed x at revision 3.\n{undo}" == done.stdout
    assert ("Y", "acme") == (shown(run, "x")["name"], shown(run, "x")["owned_by"])
    assert "description" not in shown(run, "x")


@BOTH
def test_one_entry_is_read(run: Callable[..., Result], app: Flask) -> None:
    """Commands about one entry, and those about keys, read no other entry."""
    for model_id in ("x", "unreadable"):
        run("models", "add", model_id, f'aliases=["also-{model_id}"]')
    settings = app.extensions["roster"].settings
    run_sql(settings, "UPDATE models SET document = '[]' WHERE id = 'unreadable'")

    assert "x" == shown(run, "also-x")["id"]
    assert "Changed x at revision 4." in run("models", "edit", "x", "name=X").stdout
    assert "x was so already, at revision 4.\n" == run("models", "edit", "x", "name=X").stdout
    assert "first key, from admin-key" in run("keys", "list").stdout
    assert "A stored entry cannot be read" in run("models", "show", "unreadable").stderr
    assert "A stored entry cannot be read" in run("models", "list").stderr


def test_edit_json(run: Callable[..., Result]) -> None:
    """With --json, edit prints the entry as it is stored."""
    run("models", "add", "x")

    done = run("models", "edit", "x", "--file", "-", "--json", input='{"name": "X"}')

    assert shown(run, "x") == json.loads(done.stdout)
    assert "X" == shown(run, "x")["name"]


def test_edit_nothing(run: Callable[..., Result], log: Callable[[], list[Any]]) -> None:
    """An edit that changes nothing says so and is not logged."""
    run("models", "add", "x", "name=X")
    before = log()

    assert "x was so already, at revision 2.\n" == run("models", "edit", "x", "name=X").stdout
    assert before == log()


def test_a_warning(run: Callable[..., Result]) -> None:
    """A replacement that is no entry is a warning, on standard error; the change is made."""
    done = run("models", "add", "x", "deprecation_replacement_model=y")
    edited = run("models", "edit", "x", "deprecation_replacement_model=z", "--json")

    assert (0, "Added x at revision 2.\n") == (done.exit_code, done.stdout)
    assert "Warning: deprecation_replacement_model: 'y' is no entry yet;" in done.stderr
    assert "Warning: deprecation_replacement_model: 'z' is no entry yet;" in edited.stderr
    assert shown(run, "x") == json.loads(edited.stdout)


@pytest.mark.parametrize("way", ["assignment", "file"])
@pytest.mark.parametrize(("mirror", "fact"), MIRRORS.items())
def test_another_name_is_stored(
    run: Callable[..., Result], mirror: str, fact: str, way: str
) -> None:
    """Another name of a fact sets it, as an argument and in a file, in a new entry and an old."""
    for command, value in (("add", 5), ("edit", 6)):
        given: Any = [str(value)] if "modalities" in mirror else value
        name, _, member = mirror.partition(".")
        if way == "assignment":
            done = run("models", command, "x", f"{mirror}={json.dumps(given)}")
        else:
            text = json.dumps({name: {member: given} if member else given})
            done = run("models", command, "x", "--file", "-", input=text)

        stored: Any = shown(run, "x")
        for step in fact.split("."):
            stored = stored[step]
        assert ("", given) == (done.stderr, stored)


def test_times(run: Callable[..., Result]) -> None:
    """Each time is a date, an RFC 3339 time or Unix seconds; it is stored as its field wants."""
    names = ("created", "available_from", "deprecation", "shutdown_date")
    stored = []
    for number, text in enumerate(
        ("2027-01-31", "2027-01-31T00:00:00Z", "2027-01-31t01:00:00+01:00", "1801353600")
    ):
        ids = (f"begins {number}", f"ends {number}")  # one entry cannot do both then
        for model_id, own in zip(ids, (names[:2], names[2:]), strict=True):
            run("models", "add", model_id, *(f"{name}={text}" for name in own))
        facts = shown(run, ids[0]) | {n: shown(run, ids[1])[n] for n in names[2:]}
        stored.append([facts[name] for name in names])

    assert 4 * [[1801353600, 1801353600, "2027-01-31"]] == [[*x[:2], x[3]] for x in stored]
    assert ["2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z", "2027-01-31t01:00:00+01:00"] == [
        deprecation for _, _, deprecation, _ in stored[:3]
    ]
    assert "2027-01-31T00:00:00Z" == stored[3][2]
    before = ("--retiring-before=1801353600", "--retiring-before=2027-01-31T00:00:01Z")
    lists = [run("models", "list", option, "--json").stdout for option in before]
    assert [0, 4] == [len(json.loads(text)["data"]) for text in lists]


def test_null(run: Callable[..., Result]) -> None:
    """null is no text: it removes a field, or is the value of one that may be null."""
    run("models", "add", "x", "parent=null", "name=X", "deprecation=2027-01-31")
    assert None is shown(run, "x")["parent"]

    run("models", "edit", "x", "parent=y", "name=null", "deprecation=null")
    assert ("y", False, False) == (
        shown(run, "x")["parent"],
        "name" in shown(run, "x"),
        "deprecation" in shown(run, "x"),
    )
    run("models", "edit", "x", "--unset", "parent")
    assert None is shown(run, "x")["parent"]


def test_members(run: Callable[..., Result], tmp_path: Path) -> None:
    """A member of an object is set and unset by its name, the last value counts."""
    run("models", "add", "x", "pricing.prompt=1", "pricing.a.b=free", "reasoning.mandatory=true")
    assert {"prompt": "1", "a.b": "free"} == shown(run, "x")["pricing"]
    assert {"mandatory": True} == shown(run, "x")["reasoning"]

    run("models", "edit", "x", "--unset", "pricing.prompt", "pricing.image=2")
    assert {"a.b": "free", "image": "2"} == shown(run, "x")["pricing"]
    run("models", "edit", "x", "pricing.image=1", "name=A", "pricing.image=2", "name=B")
    assert ("2", "B") == (shown(run, "x")["pricing"]["image"], shown(run, "x")["name"])
    (tmp_path / "x.json").write_text('{"pricing": {"image": "3"}}')
    run("models", "edit", "x", "--file", tmp_path / "x.json", "pricing.request=4")
    assert {"a.b": "free", "image": "3", "request": "4"} == shown(run, "x")["pricing"]


def test_remove(run: Callable[..., Result]) -> None:
    """A removed entry is gone; the command that is printed brings back all of it."""
    permission = (
        '[{"organization":"acme","allow_logprobs":false},{"is_blocking":true,"group":"g"}]'
    )
    facts = ('aliases=["also-x"]', "max_model_len=5", "deprecation=2027-01-31t01:00:00.5+01:00")
    for model_id in ("x", "-x"):
        run("models", "add", "--", model_id, "name=it's", f"permission={permission}", *facts)
        before = json.loads(run("models", "show", "--json", "--", model_id).stdout)
        removed, again = run("models", "remove", "--", model_id).stdout.splitlines()
        revision = before["revision"] + 1

        assert f"Removed {model_id} at revision {revision}." == removed
        assert 1 == run("models", "show", "--", model_id).exit_code
        assert f"To undo it: flask models undo --revision {revision}" == again
        assert 0 == run(*shlex.split(again.split(": flask ")[1]), "--yes").exit_code
        after = json.loads(run("models", "show", "--json", "--", model_id).stdout)
        assert {**before, "revision": revision + 1} == after
        gone = json.loads(run("models", "remove", "--json", "--", model_id).stdout)
        assert {"id": model_id, "removed": True, "revision": revision + 2} == gone


def test_copy(run: Callable[..., Result]) -> None:
    """A copy has the facts and permissions of the entry, ids of its own, and no aliases."""
    run("models", "add", "x", 'permission=[{"organization":"acme"}]', 'aliases=["a"]', "name=X")
    run("models", "add", "z", "root=x", "list_aliases=true", "deprecation_replacement_model=x")
    done = run("models", "copy", "x", "y", "name=Y", "context_length=5")
    run("models", "copy", "z", "w")
    x, y = shown(run, "x"), shown(run, "y")

    assert "Added y at revision 4.\nSeen by: acme.\n" == done.stdout
    assert x["permission"][0].pop("id") != y["permission"][0].pop("id")
    facts = {"max_model_len": 5, "context_window": 5, "meta": {"n_ctx": 5}, "context_length": 5}
    changed = {"id": "y", "root": "y", "name": "Y", "revision": 4, **facts}
    assert {**{n: v for n, v in x.items() if n != "aliases"}, **changed} == y
    w = shown(run, "w")
    assert ("x", "x") == (w["root"], w["deprecation_replacement_model"])
    assert "list_aliases" not in w


def test_copy_to_the_replacement(run: Callable[..., Result]) -> None:
    """An entry that replaces the one of which it is a copy does not retire with it."""
    run("models", "add", "x")
    run("models", "retire", "x", "--on", "2027-03-31", "--use", "y")

    assert 0 == run("models", "copy", "x", "y").exit_code
    names = ("deprecation", "shutdown_date", "deprecation_replacement_model")
    assert set() == shown(run, "y").keys() & {*names}


def test_retire(run: Callable[..., Result]) -> None:
    """An entry retires on a date, for another one, and is deprecated from now on."""
    run("models", "add", "x")
    run("models", "add", "y", "deprecation=2027-01-01")
    run("models", "add", "z", "deprecation=2027-12-31")
    done = run("models", "retire", "x", "--on", "2027-03-31", "--use", "y")
    run("models", "retire", "y", "--on", "2027-03-31T00:00:00Z")
    past = run("models", "retire", "z", "--on", "2027-01-01")

    def dates(model_id: str) -> list[Any]:
        names = ("deprecation", "shutdown_date", "deprecation_replacement_model")
        return [shown(run, model_id).get(name) for name in names]

    changed = (
        "Changed x at revision 5.\nRetires: 2027-03-31T00:00:00Z, then y.\n"
        "To undo it: flask models undo --revision 5\n"
    )
    assert (changed, "") == (done.stdout, done.stderr)
    assert "Retired at once, for that is past: 2027-01-01T00:00:00Z.\n" in past.stdout
    assert ["2027-01-15T08:00:00Z", "2027-03-31", "y"] == dates("x")
    assert ["2027-01-01T00:00:00Z", "2027-03-31", None] == dates("y")
    assert ["2027-01-01T00:00:00Z", "2027-01-01", None] == dates("z")


def test_retire_before_it_appears(run: Callable[..., Result]) -> None:
    """It is refused, with a sentence that has both dates, and so is such a copy."""
    run("models", "add", "x", "available_from=2027-02-01")
    early = run("models", "retire", "x", "--on", "2027-02-01")
    late = run("models", "retire", "x", "--on", "2027-02-02")
    copied = run("models", "copy", "x", "y", "available_from=2027-02-03")
    sentence = "Error: shutdown_date: Must be after available_from, which is 2027-02-01T00:00:00Z,"

    assert (1, f"{sentence} not") == (early.exit_code, early.stderr[: len(sentence) + 4])
    assert 0 == late.exit_code
    assert "2027-02-02" == shown(run, "x")["shutdown_date"]
    assert 1 == copied.exit_code
    assert copied.stderr.startswith(sentence.replace("01T", "03T"))


def test_retire_in_a_year_without_four_digits(run: Callable[..., Result]) -> None:
    """A date has four digits of a year, and a moment beyond these is refused in a sentence."""
    run("models", "add", "x")
    early = run("models", "retire", "x", "--on", "0001-01-01")
    late = run("models", "retire", "x", "--on", "9999-12-31T23:00:00-01:00")

    assert (0, "0001-01-01T00:00:00Z") == (early.exit_code, shown(run, "x")["deprecation"])
    assert (1, "Error: shutdown_date: Must be a date") == (late.exit_code, late.stderr[:36])


def test_hide(run: Callable[..., Result]) -> None:
    """A hidden entry is seen by nobody; the command that is printed undoes that."""
    run("models", "add", "x", 'permission=[{"organization":"acme","group":"g"},{"created":5}]')
    before = shown(run, "x")["permission"]
    done = run("models", "hide", "x").stdout.splitlines()

    assert ["Changed x at revision 3.", "Seen by: nobody."] == done[:2]
    assert [] == shown(run, "x")["permission"]
    assert (
        "x was so already, at revision 3.\nSeen by: nobody.\n" == run("models", "hide", "x").stdout
    )
    run(*shlex.split(done[2].removeprefix("To undo it: "))[1:], "--yes")
    assert before == shown(run, "x")["permission"]


def test_allow(run: Callable[..., Result]) -> None:
    """A team is added to those who see an entry or, with --only, replaces them."""

    def seen(*options: str) -> list[str]:
        lines = run("models", "allow", "x", *options).stdout.splitlines()
        return [line for line in lines if not line.startswith("To undo it: ")]

    run("models", "add", "x")
    *lines, hint = seen("--organization=acme")
    assert ["x was so already, at revision 2.", "Seen by: everyone."] == lines
    assert "With --only nobody else sees it." == hint
    billing = ("--organization=acme", "--group=billing")
    assert ["Changed x at revision 3.", "Seen by: acme/billing."] == seen(*billing, "--only")
    assert ["Changed x at revision 4.", "Seen by: acme/billing, acme/red, acme/sales."] == seen(
        *billing, "--group=red, sales"
    )
    assert "Seen by: acme, acme/billing, acme/red, acme/sales." == seen("--organization=acme")[1]
    assert "Seen by: everyone." == seen("--organization=*")[1]
    run("models", "edit", "x", 'permission=[{},{"organization":"acme","is_blocking":true}]')
    assert "Seen by: everyone, not acme." == seen(*billing)[1]
    assert "Seen by: acme/billing." == seen(*billing, "--only")[1]


def test_who_sees_an_entry(run: Callable[..., Result], clock: Any) -> None:
    """Who sees an entry, and what each permission does, is shown in words."""
    blocking = '{"organization":"acme","group":"g","is_blocking":true}'
    useless = '{"organization":"globex","allow_view":false,"allow_fine_tuning":true}'
    narrower = '{"organization":"acme","group":"g","allow_view":false}'
    run("models", "add", "w", f'permission=[{{"organization":"acme"}},{narrower}]')
    run(
        "models",
        "add",
        "x",
        f"permission=[{{}},{blocking},{useless}]",
        "available_from=2027-02-01",
    )
    run("models", "add", "y", "shutdown_date=2027-01-01")
    run("models", "add", "z", f'permission=[{{"organization":"acme","group":"g"}},{blocking}]')
    rows = [line.split(None, 1) for line in run("models", "show", "x").stdout.splitlines()]
    lists = run("models", "list").stdout

    assert [
        "by everyone, not acme/g from 2027-02-01T00:00:00Z",
        "everyone: sees it",
        "acme/g: never sees it",
        "globex: no effect (allow_fine_tuning true)",
    ] == [" ".join(row[1].split()) for row in rows if row[0] in ("seen", "permission")]
    assert ["created", "2027-01-15T08:00:00Z"] in rows
    assert ["available_from", "2027-02-01T00:00:00Z"] in rows
    assert "everyone, not acme/g from 2027-02-01T00:00:00Z  -\n" in lists
    assert "nobody, retired" in lists
    assert "w   -     custom    acme  " in lists
    assert "z   -     custom    nobody  " in lists


def test_a_change_by_somebody_else(run: Callable[..., Result], app: Flask) -> None:
    """A command that changes what it has read does not undo a change in between."""
    run("models", "add", "x")
    store = app.extensions["roster"].store
    read = store.model

    def read_then_changed(model_id: str) -> Model | None:
        found = read(model_id)
        run("models", "edit", "x", "name=X")
        return found

    store.model = read_then_changed
    done = run("models", "hide", "x")

    assert (1, "Error: Somebody else has just changed it: run the command again.\n") == (
        done.exit_code,
        done.stderr,
    )


@BOTH
def test_actor(
    run: Callable[..., Result], log: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says who at the terminal made each change."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("DOAS_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "ada")

    run("models", "add", "x")
    run("models", "edit", "x", "name=X")
    run("models", "remove", "x")

    assert [
        ("cli:ada", "model.create", "x"),
        ("cli:ada", "model.update", "x"),
        ("cli:ada", "model.delete", "x"),
    ] == [(line.actor, line.action, line.model_id) for line in log()[1:]]


#: What is typed, the exit code and what is said.
MISTAKES = [
    (["add", "x"], 1, "Error: The model 'x' exists already.\n"),
    (["add", "models/y"], 1, "Error: id: Must not begin with 'models/'"),
    (["add", "y", "created=tomorrow"], 1, "created: Must be a date like 2027-01-31, an RFC"),
    (["add", "y", "created="], 1, "or Unix seconds, not the text ''."),
    (["add", "y", "tags=vision"], 1, "such as 8192 or [\"text\"], not the text 'vision'."),
    (["add", "y", 'created=5,"owned_by":5'], 1, "not the text '5,"),
    (["add", "y", "created=\udcff"], 1, "Error: An argument is not valid UTF-8."),
    (["add", "y", "name=\udcff"], 1, "Error: name: Must not contain U+"),
    (["add", "y", "ownedby=acme"], 1, "Error: ownedby: Unknown field; is 'owned_by' meant?"),
    (
        ["add", "y", "created=-1", "name="],
        1,
        "created: Must be between 0 and 4294967295 Unix seconds, not -1.\nname: ",
    ),
    (["add", "y", "--file", "absent.json"], 2, "'absent.json': No such file or directory"),
    (["add", "y", "--file", "-"], 1, "Error: The text must be a JSON object, not an array."),
    (["add"], 2, "Error: Missing argument 'ID'."),
    (["show", "y"], 1, "Error: The model 'y' does not exist"),
    (["show", "\udcff"], 1, "Error: An argument is not valid UTF-8."),
    (
        ["edit", "x"],
        2,
        "Error: Nothing to change: give FIELD=VALUE, --unset FIELD or --file FILE.",
    ),
    (["edit", "y", "name=Y"], 1, "Error: The model 'y' does not exist"),
    (["edit", "\udcff", "name=Y"], 1, "Error: An argument is not valid UTF-8."),
    (
        ["edit", "x", "--unset", "owned_by"],
        1,
        "owned_by: Cannot be unset, because every entry has",
    ),
    (["edit", "x", "owned_by=null"], 1, "owned_by: Must not be null: leave the field out, or"),
    (
        ["edit", "x", "--unset", "tags.0"],
        1,
        "tags.0: Unknown field: '0' is no field, but may be in",
    ),
    (
        ["add", "y", "context_length=5", "max_model_len=6"],
        1,
        "Contradicts context_length, which is",
    ),
    (
        ["add", "y", "max_model_len=6", "context_length=5"],
        1,
        "Contradicts context_length, which is",
    ),
    (
        ["add", "y", "deprecation=2027"],
        1,
        "an RFC 3339 time or Unix seconds, not the text '2027'.",
    ),
    (["add", "y", "shutdown_date=2027-02-29"], 1, "seconds, not the text '2027-02-29'."),
    (
        ["add", "y", "shutdown_date=2027-01-31T12:00:00Z"],
        1,
        "or 00:00 UTC of one, when",
    ),
    (["list", "--hidden", "--visible"], 2, "--hidden and --visible exclude each other"),
    (
        ["list", "--retiring-before=20270131"],
        1,
        "an RFC 3339 time or Unix seconds, not '20270131'.",
    ),
    (["edit", "x", "--unset", "descripton"], 1, "Error: descripton: Unknown field; is 'descr"),
    (["remove", "y"], 1, "Error: The model 'y' does not exist"),
    (["remove", "\udcff"], 1, "Error: An argument is not valid UTF-8."),
    (["remov", "x"], 2, "Error: No such command 'remov'.\n"),
    (["lst"], 2, "Error: No such command 'lst'. Did you mean 'list'?\n"),
    (["copy", "y", "z"], 1, "Error: The model 'y' does not exist"),
    (["copy", "x", "x"], 1, "Error: The model 'x' exists already."),
    (["copy", "x", "y", "id=z"], 1, "Error: id: Must be left out or equal to NEW."),
    (["retire", "x"], 2, "Error: Missing option '--on'."),
    (["retire", "x", "--on", "null"], 2, "--on: Must be a date like 2027-01-31."),
    (["allow", "x"], 2, "Error: Missing option '--organization'."),
    (["hide", "y"], 1, "Error: The model 'y' does not exist"),
]


@pytest.mark.parametrize(("args", "code", "sentence"), MISTAKES)
def test_mistake(
    run: Callable[..., Result],
    log: Callable[[], list[Any]],
    args: list[str],
    code: int,
    sentence: str,
) -> None:
    """A mistake is told in a sentence, gives an exit code and changes nothing."""
    run("models", "add", "x")
    before = log()

    done = run("models", *args, input="[]")

    assert sentence in done.stderr
    assert (code, "") == (done.exit_code, done.stdout)
    assert before == log()
