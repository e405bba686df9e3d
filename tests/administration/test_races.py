"""Changes by several processes at once: none is lost, and the log has all of them."""

import json
import os
import random
import signal
import traceback
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest

from app.catalog.errors import ModelExists, ModelNotFound, RowsRefused
from app.catalog.history import LogFilter
from app.store.documents import write_model
from app.store.transaction import SqlTransaction
from app.strict_json import dump
from tests.administration.conftest import Roster

PROCESSES, ROUNDS = 4, 8


def change(settings, clock, number):
    """Import and edit in turn; each edit sets a member of one object of an entry."""
    roster = Roster(settings, clock)
    for turn in range(ROUNDS):
        rows = [{"id": "shared", "name": f"{number}-{turn}"}, {"id": f"of-{number}-{turn}"}]
        report = roster.update(*rows, force=True)

        assert [f"of-{number}-{turn}"] == report["added"]
        roster.edit("shared", metadata={f"p{number}": str(turn)})
        roster.update({"id": "kept", "name": "by import", "description": f"{number}-{turn}"})
        if turn % 2:
            roster.remove(f"of-{number}-{turn}")
    roster.store.close()


def in_process(function, *given):
    """Run `function` in a process of its own; return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        function(*given)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - pytest must not go on in the child
        traceback.print_exc()
        os._exit(1)


@pytest.mark.databases("sqlite", "postgresql")
def test_no_change_of_several_processes_is_lost(settings, clock, roster, log):
    """Each line goes on from the line before it, and a follower has what is stored."""
    roster.update({"id": "shared"}, {"id": "kept", "name": "A"})
    roster.edit("kept", name="by hand")
    roster.catalog.current()
    follower = roster.catalog.last
    roster.store.close()
    children = {in_process(change, settings, clock, number) for number in range(PROCESSES)}
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            assert 0 == status
            children.remove(pid)
        roster.catalog.current()

    assert follower.revision < roster.catalog.current().revision
    stored = roster.entries()

    assert stored == {model.id: model for model in roster.catalog.current().models}
    assert {f"p{n}": str(ROUNDS - 1) for n in range(PROCESSES)} == stored["shared"].metadata
    assert "by hand" == stored["kept"].name
    assert PROCESSES * ROUNDS // 2 + 2 == len(stored)

    lines = [line for line in log() if line.model_id is not None]
    revisions = [line.revision for line in log()]

    assert [*range(revisions[0], roster.revision + 1)] == revisions
    assert len(lines) == len({line.mark for line in lines})
    last = {}
    for line in lines:
        assert last.get(line.model_id) == line.before
        last[line.model_id] = line.after
    documents = {model_id: json.loads(text) for model_id, text in last.items() if text}

    assert {i: m.name for i, m in stored.items()} == {
        i: document.get("name") for i, document in documents.items()
    }


def states(roster):
    """Check that the log is whole; return by revision the documents of all entries."""
    lines = roster.store.log.lines(LogFilter(), 100_000)[::-1]
    documents, found = {}, {0: {}}

    assert [*range(1, roster.revision + 1)] == [line.revision for line in lines]
    for line in lines:
        if line.model_id is not None:
            before, after = (text and dump(dict(text)) for text in (line.before, line.after))

            assert documents.get(line.model_id) == before
            documents = {**documents, line.model_id: after}
        found[line.revision] = {i: text for i, text in documents.items() if text}
    return found


def as_of(roster, revision):
    """Return the documents of all entries as they were."""
    current = roster.catalog.current()
    moment = roster.history.find(str(revision), current)
    found = roster.history.as_of(moment, current)
    return {model.id: write_model(model) for model in found.models}


def change_and_return(settings, clock, number):
    """Change entries, take changes back, and read what was, in turn."""
    roster, chance = Roster(settings, clock), random.Random(number)
    for turn in range(3 * ROUNDS):
        before = roster.revision
        kept = roster.export(as_of=before)
        model_id, other_id = chance.sample("abcdef", 2)
        aliases = chance.sample(["x", "y", other_id], chance.randint(0, 2))
        fields = {"name": f"{number}-{turn}", "aliases": aliases}
        rows = [{"id": model_id, **fields}, {"id": other_id, "name": "imported"}]
        past = chance.randint(before - 10, before)
        calls = (
            partial(roster.add, model_id, **fields),
            partial(roster.edit, model_id, **fields),
            partial(roster.remove, model_id),
            partial(roster.take, rows, on_conflict="update", partial=True),
            partial(roster.undo, force=chance.random() < 0.5),
            partial(roster.undo, None, model_id),
            partial(roster.revert, past),
            partial(roster.revert, past, model_id),
        )
        with suppress(ModelExists, ModelNotFound, RowsRefused):
            chance.choice(calls)()

        assert kept == roster.export(as_of=before)
    roster.store.close()


@pytest.mark.databases("sqlite", "postgresql")
def test_what_was_while_others_write(settings, clock, roster):
    """As of each revision it is what the log says, whoever undoes and reverts at once."""
    for model_id in "abcdef" * 2:
        roster.update({"id": model_id, "name": str(roster.revision)})
    first = roster.revision
    roster.store.close()
    children = {
        in_process(change_and_return, settings, clock, number) for number in range(PROCESSES)
    }
    while children:
        pid, status = os.wait()

        assert 0 == status
        children.remove(pid)
    found = states(roster)

    assert first + PROCESSES * ROUNDS < roster.revision
    assert found[roster.revision] == {i: write_model(m) for i, m in roster.entries().items()}
    assert found == {revision: as_of(roster, revision) for revision in found}
    actions = {line.action.split(":")[0] for line in roster.store.log.lines(LogFilter(), 100_000)}

    assert {"import", "undo", "revert", "model.update"} <= actions
    names = Counter(name for model in roster.entries().values() for name in model.ids)

    assert [] == [name for name, count in names.items() if count > 1]


def stop_in(settings, clock, ready):
    """Take the last act back; wait in the middle of its transaction, after 1,000 entries."""
    write_rows, parts = SqlTransaction._write_rows, []

    def wait_in_second(transaction, changes, *given):
        write_rows(transaction, changes, *given)
        parts.append(len(changes))
        if len(parts) == 2:
            os.write(ready, b"!")
            signal.pause()

    SqlTransaction._write_rows = wait_in_second
    Roster(settings, clock).undo()


@pytest.mark.slow
@pytest.mark.databases("sqlite", "postgresql")
def test_a_kill_in_the_middle_of_an_undo(settings, clock, roster):
    """Nothing of it is stored; the next undo takes all of it back."""
    roster.add("a")
    before = roster.export()
    roster.update(*({"id": f"m{number:04}"} for number in range(1_200)), {"id": "a", "name": "A"})
    after, revision = roster.export(), roster.revision
    roster.store.close()
    ready, other = os.pipe()
    child = in_process(stop_in, settings, clock, other)
    written = os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    os.close(other)

    assert (b"!", signal.SIGKILL) == (written, status)
    assert (revision, after) == (roster.revision, roster.export())
    states(roster)
    roster.undo()
    states(roster)

    assert before == roster.export()
