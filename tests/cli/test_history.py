"""``flask models log``, ``undo`` and ``revert``, and what the catalogue was, from the terminal."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from app.store.log import Log
from tests.conftest import Admin, Clock

BOTH = pytest.mark.databases("sqlite", "postgresql")
DAY = 24 * 60 * 60  # seconds


@pytest.fixture(autouse=True)
def _anna(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anna is at the terminal, of a host that is not busy."""
    monkeypatch.delenv("DOAS_USER", raising=False)
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setattr("app.cli.plans._SHORT", 60)


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask models`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args, **kwargs: runner.invoke(args=["models", *args], **kwargs)


def ids(run: Callable[..., Result], *options: str) -> str:
    data = json.loads(run("list", "--json", *options).stdout)["data"]
    return "".join(entry["id"] for entry in data)


@BOTH
def test_log(run: Callable[..., Result], clock: Clock) -> None:
    """The newest act is first: when, by whom and what in words, then each field that changed."""
    run("add", "a", "name=A")
    clock.now += 60
    run("edit", "a", "name=B", "available_from=2027-01-31", 'permission=[{"organization":"x"}]')
    text = json.dumps({"data": [{"id": "a", "context_length": 5}, {"id": "b"}]})
    run("import", "-", "--source=s", "--on-conflict=update", "--yes", input=text)
    run("remove", "b")
    run("undo", "--yes")
    run("revert", "6", "--yes")
    shown = run("log").stdout

    when = "2027-01-15T08:01:00Z  cli:anna"
    assert shown.startswith(
        f"8  {when}  return to 6: 1 removed\n"
        "  - b\n"
        f"7  {when}  undo of 6: 1 added\n"
        "  + b\n"
        f"6  {when}  removal\n"
        "  - b\n"
        f"4-5  {when}  import from s: 1 added, 1 changed\n"
        "  ~ a  context_length: - → 5\n"
        "  + b\n"
        f"3  {when}  edit\n"
        "  ~ a  name: A → B\n"
        "  ~ a  permission: everyone: sees it → x: sees it\n"
        "  ~ a  available_from: - → 2027-01-31T00:00:00Z\n"
        "2  2027-01-15T08:00:00Z  cli:anna  addition\n"
        "  + a\n"
        "1  2027-01-15T08:00:00Z  start  new key\n"
    )
    assert [
        f"4-5  {when}  import from s: 1 added, 1 changed",
        "  ~ a  context_length: - → 5",
    ] == run("log", "a").stdout.splitlines()[:2]


def test_log_of_keys(run: Callable[..., Result], admin: Admin) -> None:
    """Changes of keys are in words, too, with the id of the key and its times."""
    kid = admin.new_key().split("_")[1]
    admin("PATCH", f"/admin/keys/{kid}", {"name": "other"})
    admin("POST", f"/admin/keys/{kid}/rotate", {})
    admin("DELETE", f"/admin/keys/{kid}")
    shown = run("log").stdout.splitlines()

    words = [line.split("  ")[3] for line in shown if not line.startswith(" ")]
    assert [
        "revocation of a key",
        "rotation of a key",
        "edit of a key",
        "new key",
        "new key",
    ] == words
    assert f"  ~ {kid}  revoked_at: - → 2027-01-15T08:00:00Z" == shown[1]
    assert f"  ~ {kid}  name: test → other" in shown


@BOTH
def test_log_json(run: Callable[..., Result], admin: Admin) -> None:
    """With --json there are the lines of the log, and which are the first and the last."""
    run("add", "a")
    run("edit", "a", "name=A")
    admin("PATCH", "/admin/models/a", {"name": "B"}, X_Request_ID="q1")
    listed = json.loads(run("log", "--json", "--limit=2").stdout)
    of_key = json.loads(run("log", "--json", "--until=7d").stdout)
    [*_, start] = json.loads(run("log", "--json").stdout)["data"]

    newest, edited = listed.pop("data")
    assert {"object": "list", "has_more": True, "first_id": 4, "last_id": 3} == listed
    assert {
        "revision": 3,
        "at": 1_800_000_000,
        "actor": "cli:anna",
        "action": "model.update",
        "kind": "changed",
        "batch": 3,
        "request_id": None,
        "model": "a",
        "fields": {"name": {"old": None, "new": "A"}},
    } == edited
    assert ("q1", "B") == (newest["request_id"], newest["fields"]["name"]["new"])
    assert ("start", "added", 8) == (start["actor"], start["kind"], len(start["key"]))
    empty = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    assert empty == of_key


def test_log_filters(run: Callable[..., Result], clock: Clock, admin: Admin) -> None:
    """Times are days, spans back, today, yesterday and those of HTTP; an author is a name."""
    for model_id in ("a", "b", "c"):
        run("add", model_id)
        clock.now += DAY
    admin.add("d")

    def acts(*options: str) -> str:
        lines = run("log", *options).stdout.splitlines()
        return "".join(line[4:] for line in lines if line.startswith("  + ") and len(line) == 5)

    expected = {
        "--since=today": "d",
        "--since=yesterday": "dc",
        "--until=yesterday": "ba",
        "--since=25h": "dc",
        "--since=2027-01-16": "dcb",
        "--since=2027-01-16T08:00:01Z": "dc",
        f"--until={1_800_000_000 + 1}": "a",
        "--since=999999999d": "dcba",
        "--actor=cli:anna": "cba",
        "--batch=3": "b",
        "--limit=1": "d",
        "--actor=anna": "",
    }
    assert expected == {option: acts(option) for option in expected}
    assert "c" == acts("--since=yesterday", "--until=today", "--actor=cli:anna", "c")
    assert run("log", "--limit=1").stdout.endswith("  + d\nThere is more: --limit N shows it.\n")
    assert "The log has no such change.\n" == run("log", "absent").stdout
    author = "An author is cli:USER, key:ID with the id of a key, or start."
    assert run("log", "--actor=anna").stdout.endswith(f"{author}\n")
    run("import", "-", "--yes", input="x\ny\nz\n")
    assert ["x", "y", "z"] == [*acts("--batch=7")]


def test_log_of_a_large_act(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """20 lines of an act are shown, and no more are read; a command is said that has all."""
    run("import", "-", "--yes", input="".join(f"m{number:04}\n" for number in range(1001)))
    read = []
    lines = Log.lines

    def counting(self: Log, *args: Any) -> Any:
        found = lines(self, *args)
        read.append(len(found))
        return found

    monkeypatch.setattr(Log, "lines", counting)
    heading, *shown = run("log", "--limit=1").stdout.splitlines()

    assert [*(f"  + m{number:04}" for number in range(20))] == shown[:20]
    assert [
        "  and 981 more (flask models log --batch 2 --json --limit 1001 has all)",
        "There is more: --limit N shows it.",
    ] == shown[20:]
    assert sum(read) < 50
    every = json.loads(run("log", "--batch=2", "--json", "--limit=1001").stdout)
    assert (1001, False) == (len(every["data"]), every["has_more"])
    assert [heading, *shown[:21]] == run("log", "--batch=2").stdout.splitlines()
    assert "  + m0700" == run("log", "m0700").stdout.splitlines()[1]


@BOTH
def test_as_it_was(run: Callable[..., Result], clock: Clock) -> None:
    """A list and an entry are shown as they were, who saw them too, at a revision or a time."""
    run("add", "a", "name=A", "shutdown_date=2027-01-16")
    run("add", "b", "permission=[]")
    before = {option: run("list", option).stdout for option in ("--json", "--as=", "--q=A")}
    entry = run("show", "a", "--json").stdout
    clock.now += 2 * DAY
    run("edit", "a", "name=B")
    run("remove", "b")

    for when in ("3", "yesterday", "2d", "2027-01-16", "1800000000"):
        assert ("ab", "A") == (
            ids(run, f"--as-of={when}"),
            json.loads(run("show", "a", "--json", f"--as-of={when}").stdout)["name"],
        )
    assert before == {option: run("list", option, "--as-of=3").stdout for option in before}
    assert entry == run("show", "a", "--json", "--as-of=3").stdout
    assert "seen by        everyone\n" in run("show", "a", "--as-of=3").stdout
    assert "nobody, retired" in run("show", "a").stdout
    sentence = "Error: There was no model 'b' then: 'flask models log b' has its changes."
    assert sentence in run("show", "b", "--as-of=5").stderr


@BOTH
def test_undo(run: Callable[..., Result]) -> None:
    """The last act is taken back, or the last one of an entry, or the one with a revision."""
    run("add", "a", "name=A")
    run("import", "-", "--yes", "--source=s", input="b\nc\n")
    run("edit", "a", "name=B")
    last = run("undo", "--yes").stdout
    of_import = run("undo", "c", "--dry-run").stdout
    only = run("undo", "c", "--revision=4", "--yes", "--json").stdout

    when = "2027-01-15T08:00:00Z  cli:anna"
    assert (
        f"Undo of 5  {when}  edit\n"
        "~ a  name: B → A\n"
        "Undone at revision 6: 1 changed.\n"
        "To undo it: flask models undo --revision 6\n"
    ) == last
    assert (
        f"Undo of 3-4  {when}  import from s: 2 added\n- b\n- c\nPlan: 2 removed.\n" == of_import
    )
    assert (7, 3, ["c"]) == tuple(json.loads(only)[n] for n in ("revision", "undone", "removed"))
    assert "ab" == ids(run)
    again = run("undo", "--revision=5", "--yes").stdout
    assert again.endswith("\nNothing to change at revision 7: 1 unchanged.\n")


def test_undo_of_what_was_changed_again(run: Callable[..., Result]) -> None:
    """It is refused with who did that and the option that does it all the same."""
    run("add", "a", "name=A")
    run("edit", "a", "name=B")
    run("edit", "a", "name=C")
    refused = run("undo", "--revision=3", "--yes")
    dry = run("undo", "--revision=3", "--dry-run")
    forced = run("undo", "--revision=3", "--yes", "--force").stdout

    sentence = "'a': Was changed again, at revision 4 by cli:anna."
    assert f"Error: Nothing was changed, for 1 refused: {sentence} --" in refused.stderr
    assert " --force " in refused.stderr
    assert "Refused:\n  a: Was changed again, at revision 4 by cli:anna.\n" in dry.stdout
    assert (
        "Error: Nothing is changed, because entries are refused. --force changes them, too.\n"
        == dry.stderr
    )
    assert "~ a  name: C → A\n" in forced


@BOTH
def test_revert(run: Callable[..., Result], clock: Clock) -> None:
    """All entries, or one, are what they were at a revision or a time; that can be undone."""
    run("add", "a", "name=A")
    run("add", "b")
    clock.now += 2 * DAY
    run("edit", "a", "name=B")
    run("remove", "b")
    run("add", "c")
    one = run("revert", "3", "b", "--yes").stdout
    dry = run("revert", "3", "--dry-run").stdout
    done = run("revert", "yesterday", "--yes").stdout
    run("undo", "--revision=8", "--yes")

    shown = "~ a  name: B → A\n- c\n"
    back = "To undo it: flask models undo --revision"
    assert f"Return to revision 3\n+ b\nReturned at revision 7: 1 added.\n{back} 7\n" == one
    assert dry.startswith(f"Return to revision 3\n{shown}Plan: 1 changed, 1 removed")
    assert done.startswith(
        f"Return to revision 3, the last one at 2027-01-16T00:00:00Z\n{shown}Returned at"
    )
    assert f": 1 changed, 1 removed, 1 unchanged.\n{back} 8\n" in done
    assert "abc" == ids(run)


@pytest.mark.slow
def test_what_is_confirmed_is_done(
    run: Callable[..., Result], on_terminal: Callable[..., tuple[str, int]]
) -> None:
    """An act between the question and the answer is not undone; of the same entry it refuses."""
    run("add", "a", "name=A")
    run("edit", "a", "name=B")

    def of_another() -> str:
        run("add", "b")
        return "y"

    def of_the_same() -> str:
        run("edit", "a", "name=C")
        return "y"

    done = on_terminal("flask models undo", of_another, NO_COLOR="1")
    assert ("ab", 0) == (ids(run), done[1])
    assert "~ a  name: B → A\r\n1 changed. Do it? [y/N]: y\r\nUndone at revision 5: 1" in done[0]
    refused = on_terminal("flask models revert 2", of_the_same, NO_COLOR="1")
    assert 1 == refused[1]
    assert "'a' changed after revision 5: nothing was changed." in refused[0]


#: What is typed, the exit code and the error.
MISTAKES = [
    (["log", "--since=soon"], 2, "Invalid value: 'soon' is no time: give a day like"),
    (["log", "--until="], 2, "Invalid value: '' is no time: give a day like"),
    (["log", "--until=7"], 1, "--until must be a day like 2027-01-31, an RFC 3339 time or Unix"),
    (["log", "--limit=0"], 2, "Invalid value for '--limit': 0 is not in the range"),
    (["log", "--batch=1000000000000000"], 2, "Invalid value for '--batch': 1000000000000000"),
    (["log", "\udcff"], 1, "An argument is not valid UTF-8."),
    (["list", "--as-of=99"], 1, "--as-of: the catalogue is at revision 3, not 99 yet."),
    (["list", "--as-of=2999-01-01"], 1, "--as-of must not be in the future."),
    (["show", "a", "--as-of=soon"], 2, "Invalid value: 'soon' is no time: give a"),
    (["undo"], 1, "There is no terminal to ask you on: --dry-run shows what would"),
    (["undo", "--json"], 2, "--json asks no question: give --dry-run or --yes, too."),
    (["undo", "b", "--yes"], 1, "The model 'b' does not exist"),
    (["undo", "b"], 1, "The model 'b' does not exist"),
    (["undo", "3"], 1, "The model '3' does not exist: for a revision, give --revision 3."),
    (["revert", "99"], 1, "'WHEN': the catalogue is at revision 3, not 99 yet."),
    (["undo", "b", "--revision=3", "--yes"], 1, "The model 'b' does not exist"),
    (["undo", "--revision=1", "--yes"], 1, "Revision 1 is of a key, and what was done to keys"),
    (["undo", "--revision=9", "--yes"], 1, "No line of the log has the revision 9."),
    (["revert"], 2, "Missing argument 'WHEN'."),
    (["revert", "99", "--yes"], 1, "'WHEN': the catalogue is at revision 3, not 99 yet."),
    (["revert", "soon", "--yes"], 2, "Invalid value: 'soon' is no time: give a rev"),
    (["revert", "2", "b", "--yes"], 1, "The model 'b' does not exist"),
]


def test_mistakes(run: Callable[..., Result], log: Callable[[], list[Any]]) -> None:
    """A mistake is answered with a sentence and an exit code, and changes nothing."""
    run("add", "a")
    run("edit", "a", "name=A")
    before = log()
    for args, code, sentence in MISTAKES:
        done = run(*args)

        assert f"Error: {sentence}" in done.stderr
        assert (code, before) == (done.exit_code, log()), args


def test_hostile_text(run: Callable[..., Result], sql: Callable[..., list[Any]]) -> None:
    """What a restored file has in its log changes no line of the terminal."""
    run("add", "a")
    run("edit", "a", "name=A")
    after = json.dumps(
        {"id": "a", "name": "\x1b[2J\n", "x\n": 1, "permission": [5], "created": -1}
    )
    sql(
        "UPDATE changes SET actor = :bad, action = :bad, model_id = :bad, after = :after "
        "WHERE revision = 3",
        bad="\x1b[2J\n\u202e",
        after=after,
    )
    bad = "\ufffd[2J\ufffd\ufffd"
    shown = run("log", "--limit=1").stdout
    as_json = run("log", "--json").stdout

    assert f"3  2027-01-15T08:00:00Z  {bad}  {bad}\n  ~ {bad}  " in shown
    assert "permission: everyone: sees it → [5]\n" in shown.replace('[{"', "")
    assert all(line.isprintable() for line in [*shown.splitlines(), as_json.removesuffix("\n")])


#: What a line of a restored log may have, as SQL.
LINES = {
    "no time": "before = json_set(before, '$.created', 'x')",
    "a time that no system shows": "before = json_set(before, '$.created', 1e300)",
    "a time of a far future": f"before = json_set(before, '$.available_from', {10**18})",
    "no date": "before = json_set(before, '$.shutdown_date', 'soon')",
    "no modalities": "before = json_set(before, '$.architecture', 5)",
    "a batch that others end": "batch = 1",
    "a list": "after = '[1]'",
    "an empty text": "after = ''",
    "NaN": "before = replace(before, '1800000000', 'NaN')",
    "no JSON": "before = '{'",
    "100,000 levels": f"after = '{'[' * 100_000}'",
    "a lone surrogate": r"""after = json_set(after, '$.name', json('"\ud800"'))""",
    "a year that no system has": f"at = {2**62}",
}


#: Those that are tried each time.
FOUND = ("no time", "a batch that others end", "a list", "a lone surrogate")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(values, id=test_id, marks=() if test_id in FOUND else pytest.mark.slow)
        for test_id, values in LINES.items()
    ],
)
def test_a_hostile_line_of_the_log(
    run: Callable[..., Result],
    app: Flask,
    sql: Callable[..., list[Any]],
    sign_in: Callable[[Flask], Admin],
    values: str,
) -> None:
    """Nonsense that a server's own tools have restored ends a command with a sentence at most."""
    admin = sign_in(app)
    admin.add("a", shutdown_date="2027-01-31")
    admin("PATCH", "/admin/models/a", {"name": "B"})
    admin.add("b")
    text = json.dumps({"data": [{"id": "a", "name": "C"}]})
    sql("DELETE FROM changes WHERE revision = 1")
    sql(f"UPDATE changes SET {values} WHERE revision = 3")  # noqa: S608
    commands = (
        *(("log", *more) for more in ((), ("--json",), ("--batch=3",), ("a",))),
        *(("list", "--as-of=2", *more) for more in ((), ("--json",), ("--as=org",))),
        *(("show", "a", "--as-of=2", *more) for more in ((), ("--json",))),
        *(("undo", "--revision=3", *more) for more in (("--dry-run",), ("--force", "--yes"))),
        ("revert", "2", "--yes"),
        ("import", "-", "--source=s", "--on-conflict=update", "--dry-run"),
    )
    done = [run(*command, input=text) for command in commands]
    answers = [
        admin("GET", "/admin/changes").status_code,
        admin("GET", "/admin/models?as_of=2").status_code,
        admin("POST", "/admin/undo", {"revision": 3, "dry_run": True}).status_code,
    ]

    assert [None] * len(done) == [
        None if isinstance(result.exception, SystemExit) else result.exception for result in done
    ]
    assert {*answers} <= {200, 400, 404, 422, 503}
    assert 200 == admin("GET", "/admin/models").status_code


def test_an_empty_catalogue(run: Callable[..., Result]) -> None:
    """The log has the first key alone, and there is nothing to undo."""
    shown = run("log").stdout
    refused = run("undo", "--yes")

    assert shown.startswith("1  2027-01-15T08:00:00Z  start  new key\n  + ")
    assert 2 == len(shown.splitlines())
    assert "" == ids(run, "--as-of=1") == ids(run, "--as-of=yesterday")
    assert (1, "Error: No ") == (refused.exit_code, refused.stderr[:10])
    returned = run("revert", "1", "--yes").stdout
    assert "Return to revision 1\nNothing to change at revision 1: no model.\n" == returned


def test_a_pruned_log(run: Callable[..., Result], sql: Callable[..., list[Any]]) -> None:
    """It begins where it has been pruned; what was before is said to be removed."""
    for name in ("A", "B", "C"):
        run("add" if name == "A" else "edit", "a", f"name={name}")
    sql("DELETE FROM changes WHERE revision < 3")
    sql("UPDATE catalogue SET pruned = 3")
    removed = "Error: The history before revision 3, of 2027-01-15T08:00:00Z, was removed from"

    assert "43T" == "".join(x[0] for x in run("log").stdout.splitlines()).replace(" ", "")
    sentence = removed.removeprefix("Error: ") + " the log.\n"
    for options in ([], ["a"], ["--until=1d"], ["--since=1d"], ["--batch=2"], ["absent"]):
        assert run("log", *options).stdout.endswith(sentence)
    for options in (["--limit=1"], ["--since=2027-01-15T08:00:01Z"], ["--batch=4"]):
        assert sentence not in run("log", *options).stdout
    assert "B" == json.loads(run("show", "a", "--json", "--as-of=3").stdout)["name"]
    for command in (("list", "--as-of=2"), ("show", "a", "--as-of=1d"), ("revert", "2", "--yes")):
        assert removed in run(*command).stderr
    undone = run("undo", "--revision=2", "--yes")
    assert (1, "Error: ") == (undone.exit_code, undone.stderr[:7])


def test_an_undo_of_what_was_pruned(
    run: Callable[..., Result], sql: Callable[..., list[Any]], admin: Admin
) -> None:
    """Where no change of an entry is left in the log, it says that these were removed."""
    run("add", "a")
    admin.new_key()
    sql("DELETE FROM changes WHERE revision < 3")
    sql("UPDATE catalogue SET pruned = 3")
    removed = "Error: The history before revision 3, of 2027-01-15T08:00:00Z, was removed from"

    assert removed in run("undo", "--yes").stderr
    assert removed in run("undo", "a", "--yes").stderr
    assert "The model 'b' does not exist" in run("undo", "b", "--yes").stderr
