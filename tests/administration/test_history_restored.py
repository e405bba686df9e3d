"""The catalogue as it was, after a restore: what no line describes is said to be that."""

import gc

import pytest

from app.catalog.errors import RevisionUnknown, StoreUnavailable
from tests.administration.conftest import ANNA


def test_after_a_restore(roster, tmp_path, clock):
    """Lost changes are unknown, by revision and by time; what was before and after is known."""
    exports = {}
    times = {}

    def note():
        exports[roster.revision], times[int(clock.now)] = roster.export(), roster.revision
        clock.now += 10

    roster.add("a", name="A")
    note()
    roster.edit("a", name="B")
    note()
    roster.store.backup(tmp_path / "backup.db")
    lost = []
    for name in ("C", "D"):
        roster.edit("a", name=name)
        lost += [roster.revision, int(clock.now)]
        clock.now += 10
    roster.store.close()
    restored = roster.store.restore(tmp_path / "backup.db", actor=ANNA)
    at_restore = roster.export()
    clock.now += 10

    assert 5 == restored.revision
    assert exports[3] == at_restore == roster.export(as_of=3) == roster.export(as_of=5)
    for when in (4, int(clock.now)):
        with pytest.raises(RevisionUnknown):
            roster.export(as_of=when)
    roster.edit("a", name="E")
    note()
    roster.add("b")
    note()

    assert exports == {revision: roster.export(as_of=revision) for revision in exports}
    assert [2, 3, 6, 7] == sorted(exports)
    for when in lost:
        with pytest.raises(RevisionUnknown):
            roster.export(as_of=when)
    # A second after a change before the backup, its state is known if the log goes on with it.
    known = {time: roster.export(as_of=time) for time, revision in times.items() if revision != 3}

    assert {time: exports[times[time]] for time in known} == known
    roster.revert(3)
    roster.undo()

    assert exports[7] == roster.export()


def test_after_a_read_that_fails(roster, monkeypatch):
    """The next read is a whole one, whenever Python frees the cursor of the one that failed."""
    for model_id in "abc":
        roster.add(model_id, name="A")
        roster.edit(model_id, name="B")
    before = roster.export(as_of=2)
    kept = []

    def fail(model_id, *_):
        kept.clear()
        gc.collect()  # the cursor of the last read, while this one is in use
        if model_id != "a":
            raise StoreUnavailable("The document cannot be read.")

    with monkeypatch.context() as patch:
        patch.setattr("app.store.log._model", fail)
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as found:
                roster.export(as_of=2)
            kept.append(found.value)
            del found

    assert before == roster.export(as_of=2)
