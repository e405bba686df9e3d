"""The runs of imports: what is recorded of each source, outside the revision."""

import threading

import pytest

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.sources import FailedRun, GoodRun, SourceState
from app.schemas import MAX_MESSAGE
from app.store.store import Store

pytestmark = pytest.mark.databases("sqlite", "postgresql")
GOOD = GoodRun(at=100, revision=7, added=5, changed=4, removed=3, unchanged=2, skipped=1, kept=9)
BAD = FailedRun(at=200, message="The file is no catalogue.")


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


def test_each_source_keeps_its_last_good_and_its_last_failed_run(store):
    """A run replaces the one that ended alike, and no other; the list is in order of names."""
    store.record_run("zoo", BAD)
    store.record_run("B", GOOD, known_format="litellm")
    store.record_run("a/b", FailedRun(at=1, message="First."), known_format="csv")
    store.record_run("a/b", GOOD, known_format="ids")
    store.record_run("a/b", BAD)
    store.record_run("B", GoodRun(at=101, revision=8))

    assert [
        SourceState("B", "litellm", GoodRun(at=101, revision=8), None),
        SourceState("a/b", "ids", GOOD, BAD),
        SourceState("zoo", None, None, BAD),
    ] == store.sources()
    assert [False, True, True] == [source.is_failing for source in store.sources()]


def test_a_run_takes_no_revision(store, log):
    """A recorded run is no change: the position stays, and so does the log."""
    before, lines = store.position(), log()
    store.record_run("x", GOOD)

    assert before == store.position()
    assert lines == log()
    assert "ok" == store.writer.writes


def test_a_message_is_one_printable_text(store):
    """What a hostile file has in its message is replaced, and the message is cut."""
    store.record_run("x", FailedRun(at=1, message="a\x1b[31m\n\0\ud800" + "b" * MAX_MESSAGE))

    [source] = store.sources()
    assert MAX_MESSAGE == len(source.last_failed.message)
    assert source.last_failed.message.startswith("a\ufffd[31m\ufffd\ufffd\ufffdb")


def test_members_of_a_newer_program_are_ignored(store, sql):
    """A newer program may say more about a run."""
    document = '{"at":1,"revision":2,"more":3}'
    sql("INSERT INTO sources VALUES ('x', 'new', :document, NULL)", document=document)

    assert [SourceState("x", "new", GoodRun(at=1, revision=2), None)] == store.sources()


@pytest.mark.parametrize("document", ["{", "[]", "{}", '"x"'])
def test_an_unreadable_run_is_an_outage(store, sql, document):
    """A document that another program has spoilt is refused with a sentence."""
    sql("INSERT INTO sources VALUES ('x', NULL, :document, NULL)", document=document)

    with pytest.raises(StoreUnavailable) as unreadable:
        store.sources()
    assert unreadable.value.reason.startswith("A stored run cannot be read: ")


def test_runs_of_one_source_at_once_are_all_recorded(store):
    """Eight first runs of one source end without an error, and leave one row."""
    threads = [
        threading.Thread(target=store.record_run, args=("x", GoodRun(at=n, revision=n)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [source] = store.sources()
    assert source.last_good.at == source.last_good.revision < 8


def test_a_newer_program_shuts_out_this_one(store, sql):
    """Where only newer programs may write, no run is recorded."""
    sql("UPDATE catalogue SET oldest_schema = 99")

    with pytest.raises(StoreRefused):
        store.record_run("x", GOOD)
    assert "failing" == store.writer.writes
    assert [] == sql("SELECT * FROM sources")


def test_a_lost_table_is_an_outage(store, sql):
    """A run that cannot be recorded is `StoreUnavailable`, as every other write."""
    sql("DROP TABLE sources")

    with pytest.raises(StoreUnavailable):
        store.record_run("x", GOOD)
    with pytest.raises(StoreUnavailable):
        store.sources()
