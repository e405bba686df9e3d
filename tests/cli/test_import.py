"""``flask models import`` and ``export``, and changes of many entries, from the terminal."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask


@pytest.fixture(autouse=True)
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host no output says how long others have waited."""
    monkeypatch.setattr("app.cli.plans._SHORT", 60)


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask models`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args, **kwargs: runner.invoke(args=["models", *args], **kwargs)


def catalogue(*rows: dict[str, Any]) -> str:
    return json.dumps({"object": "list", "data": rows})


def ids(run: Callable[..., Result], *options: str) -> list[str]:
    return [entry["id"] for entry in json.loads(run("list", "--json", *options).stdout)["data"]]


def test_import(run: Callable[..., Result], tmp_path: Path, log: Callable[[], list[Any]]) -> None:
    """A dry run shows what would change, --yes does that, and the second time nothing changes."""
    file = tmp_path / "models.json"
    file.write_text(catalogue({"id": "a", "context_window": 5}, {"id": "b", "created": "soon"}))
    options = ("import", str(file), "--set", "owned_by=acme", "--hidden", "--source", "proxy")
    plan = (
        "+ a\n+ b\nFields that are left out:\n"
        "  b (row 2): created: Must be a whole number of Unix seconds, not the text 'soon'.\n"
    )
    dry = run(*options, "--dry-run")
    before = log()
    done = run(*options, "--yes")

    assert (0, f"{plan}Plan: 2 added; 1 field left out.\n") == (dry.exit_code, dry.stdout)
    assert 1 == len(before)
    back = "To undo it: flask models undo --revision 2\n"
    assert f"{plan}Imported at revision 3: 2 added; 1 field left out.\n{back}" == done.stdout
    assert ["a", "b"] == ids(run, "--owned-by=acme", "--hidden", "--source=proxy")
    again = run(*options, "--yes").stdout
    assert again.endswith("Nothing to change at revision 3: 2 unchanged; 1 field left out.\n")
    assert {"import:proxy"} == {line.action for line in log()[1:]}


def test_import_of_a_changed_catalogue(run: Callable[..., Result]) -> None:
    """Each change is shown by its field, a person's are kept, and what is gone is removed."""
    old = catalogue({"id": "a", "context_window": 5, "name": "A"}, {"id": "b"})
    run("import", "-", "--yes", input=old)
    run("edit", "a", "name=Mine")
    run("add", "own", "deprecation_replacement_model=b")
    new = catalogue({"id": "a", "context_window": 6, "name": "B"}, {"id": "c"})
    options = ("import", "-", "--on-conflict=update", "--prune")
    done = run(*options, "--yes", input=new)

    assert (
        "+ c\n"
        "~ a  context_length: 5 → 6\n"
        "- b\n"
        "Left as a person has changed it, unless you give --force:\n"
        "  a  name: Mine, not B\n"
        "Warning: 'b' goes, which is the replacement of 'own'.\n"
        "Imported at revision 8: 1 added, 1 changed, 1 removed; 1 left as a person has changed "
        "them.\n"
        "To undo it: flask models undo --revision 6\n"
    ) == done.stdout
    retired = run(*options, "--retire=2027-03-31", "--dry-run", input=catalogue({"id": "a"}))
    assert "~ c  shutdown_date: - → 2027-03-31\n" in retired.stdout
    assert "~ a  name: Mine → B\n" in run(*options, "--force", "--yes", input=new).stdout


def test_a_refused_import(run: Callable[..., Result], log: Callable[[], list[Any]]) -> None:
    """What is refused is shown with the option to give, and nothing changes without --partial."""
    run("add", "a")
    text = "a,A\nb c ,\n/x,\nc,C\n"
    before = log()
    options = ("import", "-", "--format=csv")
    shown = run(*options, "--dry-run", input=f"id,name\n{text}")
    refused = run(*options, "--yes", input=f"id,name\n{text}")

    assert (1, 1, before) == (shown.exit_code, refused.exit_code, log())
    assert (
        "  a (row 1): Exists already, with another name: --on-conflict=update changes it, "
        "--on-conflict=skip leaves it.\n"
    ) in shown.stdout
    assert (
        "Error: Nothing is changed, because rows are refused. --partial leaves these out.\n"
    ) == shown.stderr
    assert shown.stdout.endswith("Plan: 1 added, 3 refused.\n")
    assert "Error: Nothing was changed, for 3 refused: row 2" in refused.stderr
    assert refused.stderr.endswith(" --dry-run shows all of them, --partial leaves them out.\n")
    partial = run(*options, "--yes", "--partial", input=f"id,name\n{text}")
    assert "Imported at revision 3: 1 added, 3 refused.\n" in partial.stdout


@pytest.mark.parametrize("option", ["--prune", "--retire=2028-01-15"])
def test_a_file_without_a_model(run: Callable[..., Result], option: str) -> None:
    """The sentence names the option that would take all entries of the source."""
    run("import", "-", "--yes", input=catalogue({"id": "a"}))
    done = run("import", "-", "--yes", option, input=catalogue())

    name = option.partition("=")[0]
    assert (1, f"Error: The file has no model: with {name} all 1 of the source would go.\n") == (
        done.exit_code,
        done.stderr,
    )


def test_sentences_of_one_kind(run: Callable[..., Result]) -> None:
    """Of sentences that differ in a value the first is shown, and lists have 20 lines."""
    rows = [{"id": f"m{number:02}", "created": f"day {number}"} for number in range(25)]
    lines = run("import", "-", "--dry-run", input=catalogue(*rows)).stdout.splitlines()

    assert [
        "+ m19",
        "  and 5 more (--json has all)",
        "Fields that are left out:",
        (
            "  m00 (row 1): created: Must be a whole number of Unix seconds, not the text 'day 0'."
            " Likewise: m01, m02, m03 and 21 more."
        ),
        "Plan: 25 added; 25 fields left out.",
    ] == lines[19:]


def test_import_as_json(run: Callable[..., Result]) -> None:
    """With --json the plan is one line of JSON, of a dry run and of a change."""
    dry = json.loads(run("import", "-", "--json", "--dry-run", input="a\n").stdout)
    done = json.loads(run("import", "-", "--json", "--yes", input="a\n").stdout)

    assert ("plan", "ids", True, 1, ["a"]) == tuple(
        dry[name] for name in ("object", "format", "dry_run", "revision", "added")
    )
    assert {**dry, "dry_run": False, "revision": 2, "seconds": 0} == {**done, "seconds": 0}


def test_a_failure_is_recorded(run: Callable[..., Result], tmp_path: Path) -> None:
    """What cannot be read is the last failure of its source, but for a dry run."""
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", (64 << 20) + 1)
    unreadable = {
        "http://127.0.0.1:1/x": "http://127.0.0.1:1/x cannot be fetched: [Errno 111]",
        str(tmp_path / "none"): (
            f"{tmp_path}/none cannot be read: No such file or directory. A URL begins with "
            "http:// or https://."
        ),
        "models.dev/api.json": "models.dev/api.json cannot be read: No such file or directory.",
        "ftp://x/y": "ftp://x/y cannot be read: No such file or directory. A URL begins with",
        str(tmp_path): f"{tmp_path} cannot be read: Is a directory",
        str(tmp_path / "large"): f"{tmp_path}/large is longer than 64 MiB, and no file may be",
    }
    for name, sentence in unreadable.items():
        run("import", name, "--dry-run", "--source=dry")
        done = run("import", name, "--yes", "--source=s")
        listed = json.loads(run("sources", "--json").stdout)["data"]

        assert (1, f"Error: {sentence}") == (done.exit_code, done.stderr[: len(sentence) + 7])
        assert ["s"] == [source["name"] for source in listed]
        assert listed[0]["last_failed"]["message"].startswith(sentence)


#: What is typed, the exit code and the error.
MISTAKES = [
    (["import"], 2, "Missing argument 'FILE'."),
    (["import", "-"], 1, "There is no terminal to ask you on: --dry-run shows what would"),
    (["import", "-", "--json"], 2, "--json asks no question: give --dry-run or --yes, too."),
    (["import", "-", "--yes", "--format=xml"], 1, "--format must be one of: auto, roster,"),
    (["import", "-", "--yes", "--source=a b"], 1, "source: Must be 1 to 64 letters, digits,"),
    (["import", "-", "--yes", "--prefix"], 1, "--prefix must be left out: ids has no provider"),
    (["import", "-", "--yes", "--set", "id=x"], 1, "id: Cannot be set for all rows."),
    (["import", "-", "--yes", "--set", "nam=x"], 1, "nam: Unknown field; is 'name' meant?"),
    (["import", "-", "--yes", "--retire=soon"], 1, "retire: Must be a date like"),
    (["export", "--format=csv"], 2, "Invalid value for '--format': 'csv' is not one of"),
    (["edit"], 2, "Nothing to change: give FIELD=VALUE, --unset FIELD or --file FILE."),
    (["edit", "name=X", "name=X"], 1, "The model 'name=X' does not exist"),
    (["edit", "name=X"], 2, "Which entry? 'name=X' is taken for its ID: give one before it, or"),
    (["edit", "--q=", "name=X"], 2, "Which entry? 'name=X' is taken for its ID: give one before"),
    (["edit", "--q=x"], 2, "Nothing to change: give FIELD=VALUE, --unset FIELD or --file FILE."),
    (["edit", "x", "--q=x", "name=X"], 2, "Give ids, such as 'x', or filters, and not both."),
    (["edit", "x", "y", "name=X"], 1, "There is no terminal to ask you on: --dry-run shows"),
    (["edit", "x", "y", "id=z", "--yes"], 1, "id: Cannot change."),
    (["edit", "x", "y", "name=X", "--yes"], 1, "Nothing was changed, for 1 refused: 'y': The"),
    (["edit", "--tag=t", "name=X", "--yes"], 1, "No entry matches."),
    (["edit", "--min-context=x", "name=X"], 1, "--min-context must be a whole number, not 'x'."),
    (["remove"], 2, "Missing argument 'ID': or select entries, as with --owned-by NAME."),
    (["remove", "--q="], 2, "Missing argument 'ID': or select entries, as with --owned-by NAME."),
    (["remove", "x", "--tag=t"], 2, "Give ids, such as 'x', or filters, and not both."),
    (["remove", "x", "y"], 1, "There is no terminal to ask you on: --dry-run shows what would"),
]


@pytest.mark.parametrize(("args", "code", "sentence"), MISTAKES)
def test_mistake(
    run: Callable[..., Result],
    log: Callable[[], list[Any]],
    args: list[str],
    code: int,
    sentence: str,
) -> None:
    """A mistake is answered with a sentence and an exit code, and changes nothing."""
    run("add", "x")
    before = log()
    done = run(*args, input=None if "There is no terminal" in sentence else "a\n")

    assert f"Error: {sentence}" in done.stderr
    assert (code, "", before) == (done.exit_code, done.stdout, log())


def test_a_wrong_format_is_no_source(run: Callable[..., Result]) -> None:
    """The name of a format that there is not does not become that of a source."""
    run("import", "-", "--yes", "--format=xml", input="a\n")

    assert [] == json.loads(run("sources", "--json").stdout)["data"]


def test_the_question(
    run: Callable[..., Result], on_terminal: Callable[..., tuple[str, int]], tmp_path: Path
) -> None:
    """On a terminal the plan has colours, and it is done if one answers yes."""
    run("import", "-", "--yes", input=catalogue({"id": "b"}, {"id": "c"}))
    (tmp_path / "models").write_text(catalogue({"id": "a"}, {"id": "b", "name": "B"}))
    command = f"flask models import {tmp_path}/models --prune --on-conflict=update"
    question = "1 added, 1 changed, 1 removed. Do it? [y/N]: "
    coloured = "\x1b[32m+ a\x1b[0m\r\n\x1b[33m~ b  name: - → B\x1b[0m\r\n\x1b[31m- c\x1b[0m\r\n"

    shown = on_terminal(command, lambda: "n", NO_COLOR="")
    assert (f"{coloured}{question}n\r\nError: Nothing was changed.\r\n", 1) == shown
    plain = "+ a\r\n~ b  name: - → B\r\n- c\r\n"
    done = on_terminal(
        f"cat {tmp_path}/models | {command.replace(str(tmp_path / 'models'), '-')}",
        lambda: "y",
        NO_COLOR="1",
    )
    sentence = "Imported at revision 6: 1 added, 1 changed, 1 removed.\r\n"
    back = "To undo it: flask models undo --revision 4\r\n"
    assert (f"{plain}{question}y\r\n{sentence}{back}", 0) == done
    assert ["a", "b"] == ids(run)


def test_a_change_after_the_plan(
    run: Callable[..., Result], on_terminal: Callable[..., tuple[str, int]]
) -> None:
    """What is done is what was shown: if an entry changes before the answer, nothing is."""
    run("add", "a")
    run("add", "b")

    def somebody_else() -> str:
        run("edit", "a", "name=A")
        return "yes"

    shown, code = on_terminal("flask models remove a b", somebody_else, NO_COLOR="1")
    assert (1, ["a", "b"]) == (code, ids(run))
    assert "Error: 'a' changed after revision 3: nothing was changed." in shown
    assert shown.endswith("run the command again.\r\n")


@pytest.mark.slow
def test_the_bar(on_terminal: Callable[..., tuple[str, int]]) -> None:
    """On a terminal a bar shows how many of many rows are checked."""
    shown, code = on_terminal("seq 2001 | flask models import - --yes", str)

    assert (0, True) == (code, "Checking  [####################################]  100%" in shown)
    assert "2,001 added.\r\n" in shown
    assert "Checking" not in on_terminal("seq 2000 | flask models import - --dry-run", str)[0]


def test_export(run: Callable[..., Result], tmp_path: Path) -> None:
    """What is exported, to standard output or a new file, changes nothing if it is imported."""
    run("add", "a", "name=A", 'permission=[{"organization":"acme"}]')
    run("import", "-", "--yes", "--source=s", input="b\n")
    for options in ((), ("--format=ndjson",)):
        file = tmp_path / f"export{len(options)}"
        shown = run("export", *options).stdout
        written = run("export", str(file), *options)
        again = run("export", str(file), *options, "--json")

        assert f"Wrote {file}: 2 entries.\n" == written.stdout
        assert shown == file.read_text()
        assert (1, f"Error: {file} exists already; it is left as it is.\n") == (
            again.exit_code,
            again.stderr,
        )
        imported = run("import", str(file), "--yes").stdout
        assert "Nothing to change at revision 3: 2 unchanged.\n" == imported
    size = (tmp_path / "export1").stat().st_size
    facts = {"file": str(tmp_path / "x"), "entries": 2, "size": size}
    written = run("export", str(tmp_path / "x"), "--json", "--format=ndjson")
    assert facts == json.loads(written.stdout)


def test_edit_many(run: Callable[..., Result], log: Callable[[], list[Any]]) -> None:
    """The entries of several ids, or of filters, are changed in one step."""
    for model_id in ("a", "b", "c"):
        run("add", model_id, "owned_by=old")
    retired = run("edit", "--owned-by=old", "shutdown_date=2027-03-31", "--yes").stdout
    hidden = run("edit", "a", "b", "permission=[]", "--unset", "name", "--yes").stdout
    dry = run("edit", "c", "owned_by=new", "--dry-run").stdout
    renamed = run("edit", "--owned-by", "old", "owned_by=new", "--json", "--yes")

    line = "~ {}  shutdown_date: - → 2027-03-31\n"
    changed = "Changed at revision 7: 3 changed.\nTo undo it: flask models undo --revision 5\n"
    assert f"{''.join(map(line.format, 'abc'))}{changed}" == retired
    assert "~ a  permission: everyone: sees it → nobody sees it\n" in hidden
    assert "~ c  owned_by: old → new\nPlan: 1 changed.\n" == dry
    assert {"old": "old", "new": "new"} == (
        json.loads(renamed.stdout)["changed"][2]["fields"]["owned_by"]
    )
    assert ["a", "b", "c"] == ids(run, "--owned-by=new")
    assert {"model.create", "model.update"} == {line.action for line in log()[1:]}


def test_remove_many(run: Callable[..., Result]) -> None:
    """The entries of several ids, or of filters, are removed in one step."""
    for model_id in ("a", "b", "c", "d"):
        run("add", model_id, "permission=[]" if model_id > "b" else "name=X")
    dry = run("remove", "a", "--dry-run")
    assert ("- a\nPlan: 1 removed.\n", 4) == (dry.stdout, len(ids(run)))

    assert (
        "- a\n- b\nRemoved at revision 7: 2 removed.\nTo undo it: flask models undo --revision 6\n"
    ) == run("remove", "a", "b", "--yes").stdout
    assert ["c", "d"] == json.loads(run("remove", "--hidden", "--yes", "--json").stdout)["removed"]
    assert [] == ids(run)
