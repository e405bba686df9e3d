"""Imports and edits by several processes at once: none is lost, and the log has all of them."""

import json
import os
import traceback

import pytest

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
