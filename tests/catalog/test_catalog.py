"""How a worker follows the store: one snapshot, then changes, outages and dates."""

import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.catalog import PAUSE, Catalog
from app.catalog.errors import StoreUnavailable
from app.catalog.keys import ApiKey
from app.catalog.model import Model, Permission
from app.catalog.ports import Changes, Position, StoredCatalog
from app.catalog.visibility import ANONYMOUS
from tests.catalog.samples import listed

#: 2027-01-15T00:00:00Z
MIDNIGHT = 1_799_971_200
#: Seconds that threads wait for one another before the test fails.
PATIENCE = 30


def entry(model_id, **fields):
    permission = Permission(id="modelperm-x", created=0)
    return Model(
        id=model_id, created=0, owned_by="c", root=model_id, permission=(permission,), **fields
    )


class MemoryFeed:
    """A feed in memory, with a log that can be cut and switches for outages and failovers."""

    def __init__(self, *models):
        self.models = {model.id: model for model in models}
        self.keys = {}
        self.number = 1
        self._fresh = map(str, itertools.count())
        #: By revision, the mark of the change, and the entries and keys that there were then.
        self.marks = {1: next(self._fresh)}
        self.states = {1: (dict(self.models), {})}
        #: By revision, what changed: the id of an entry or the kid of a key.
        self.log = {}
        self.logs_lost = False
        #: The one entry of a standby, if there is a standby.
        self.standby = None
        #: Why the feed cannot be read; None while it can.
        self.down = None
        #: The calls that may fail while the feed is down.
        self.failing = {"position", "load", "changes_since"}
        #: Every read beyond the revision.
        self.reads = []

    def put(self, model):
        self.models[model.id] = model
        self._changed("model", model.id)

    def remove(self, model_id):
        del self.models[model_id]
        self._changed("model", model_id)

    def put_key(self, kid):
        self.keys[kid] = ApiKey(kid=kid, digest=f"digest of {kid}", name=kid, created=0)
        self._changed("key", kid)

    def _changed(self, *what):
        self.number += 1
        self.log[self.number] = what
        self.marks[self.number] = next(self._fresh)
        self.states[self.number] = dict(self.models), dict(self.keys)

    def fail_over(self, number):
        """Go back to a revision: what was written after it never was, and others follow it."""
        self.number = number
        self.models, self.keys = map(dict, self.states[number])
        for by_revision in (self.log, self.marks, self.states):
            for later in [n for n in by_revision if n > number]:
                del by_revision[later]

    def _fail(self, call):
        if self.down is not None and call in self.failing:
            raise StoreUnavailable(self.down)

    def position(self):
        self._fail("position")
        return Position(self.number, self.marks[self.number])

    def load(self, *, standby=False):
        if standby and self.standby is None:
            raise StoreUnavailable("There is no standby.")
        if standby:
            return StoredCatalog(1, [self.standby], [], "of the standby")
        self.reads.append("load")
        self._fail("load")
        mark = self.marks[self.number]
        return StoredCatalog(
            self.number, list(self.models.values()), list(self.keys.values()), mark
        )

    def own_changes(self, *_):
        return None

    def changes_since(self, position):
        self.reads.append("changes")
        self._fail("changes_since")
        news = range(position.revision + 1, self.number + 1)
        if self.marks.get(position.revision) != position.mark:
            return None
        if self.logs_lost or not news or any(n not in self.log for n in news):
            return None
        changed = [self.log[n] for n in news]
        return Changes(
            self.number,
            {i: self.models.get(i) for kind, i in changed if kind == "model"},
            {i: self.keys[i] for kind, i in changed if kind == "key"},
            self.marks[self.number],
        )


@pytest.fixture
def feed():
    return MemoryFeed(entry("a"))


@pytest.fixture
def monotonic(clock):
    """A second clock, which starts elsewhere and is never set back."""
    return type(clock)(500.0)


@pytest.fixture
def catalog(feed, clock, monotonic):
    clock.now = MIDNIGHT
    return Catalog(feed, clock, monotonic)


def seen(catalog):
    """Return what anybody sees now, and at which revision."""
    current = catalog.current()
    return current.revision, [model.id for model in listed(current.audiences.of_viewer(ANONYMOUS))]


class TestFollowing:
    def test_the_first_snapshot_is_loaded_once(self, catalog, feed):
        """Everything is loaded at the first request, and only then."""
        first = catalog.current()
        second = catalog.current()

        assert first is second
        assert ["load"] == feed.reads
        assert (1, ["a"]) == seen(catalog)

    @pytest.mark.usefixtures("catalog")
    def test_nothing_is_read_before_it_is_asked_for(self, feed):
        """Making the catalogue reads nothing."""
        assert [] == feed.reads

    def test_a_change_is_seen_at_once(self, catalog, feed):
        """The next request has each write, for which it reads the change alone."""
        catalog.current()
        states = []
        feed.put(entry("b"))
        states.append(seen(catalog))
        feed.put(entry("b", name="B"))
        states.append(catalog.current().get("b").name)
        feed.remove("a")
        states.append(seen(catalog))

        assert [(2, ["a", "b"]), "B", (4, ["b"])] == states
        assert ["load", "changes", "changes", "changes"] == feed.reads

    def test_several_changes_are_followed_in_one_step(self, catalog, feed):
        """However many writes there were, they are read as one change."""
        for number in range(9):
            feed.models[f"m{number}"] = entry(f"m{number}")
        catalog.current()
        feed.put(entry("b"))
        feed.put(entry("c"))
        feed.remove("b")
        feed.remove("a")

        assert (5, ["c", *(f"m{number}" for number in range(9))]) == seen(catalog)
        assert ["load", "changes"] == feed.reads

    @pytest.mark.parametrize("is_enabled", [True, False])
    def test_nothing_is_collected_while_entries_are_read(self, catalog, feed, is_enabled):
        """The garbage collector rests while a snapshot is made, and is then as it was before."""
        load, states = feed.load, []
        feed.load = lambda: states.append(gc.isenabled()) or load()
        if not is_enabled:
            gc.disable()
        try:
            catalog.current()
            states.append(gc.isenabled())
        finally:
            gc.enable()

        assert [False, is_enabled] == states

    @pytest.mark.parametrize(("writes", "read"), [(2, "changes"), (3, "load")])
    def test_far_behind_everything_is_loaded(self, catalog, feed, writes, read):
        """More changes than half the entries and keys are not read: loading costs less."""
        feed.put(entry("b"))
        feed.put_key("k")
        catalog.current()
        for number in range(writes):
            feed.put(entry("a", name=str(number)))

        assert str(writes - 1) == catalog.current().get("a").name
        assert ["load", read] == feed.reads

    def test_keys_are_followed_too(self, catalog, feed):
        """The next request knows a new key."""
        catalog.current()
        feed.put_key("k")

        assert ["k"] == [key.kid for key in catalog.current().keys]
        assert ["load", "changes"] == feed.reads

    def test_a_cut_log_loads_everything(self, catalog, feed):
        """Where the log does not tell what changed, the whole snapshot is loaded anew."""
        feed.put(entry("b"))
        catalog.current()
        feed.remove("a")
        feed.logs_lost = True

        assert (3, ["b"]) == seen(catalog)
        assert ["load", "changes", "load"] == feed.reads

    def test_a_store_that_went_back_is_loaded(self, catalog, feed):
        """A revision below the one seen is another history: everything is loaded anew."""
        for name in "bcd":
            feed.put(entry(name))
        catalog.current()
        feed.fail_over(2)

        assert (2, ["a", "b"]) == seen(catalog)
        assert ["load", "load"] == feed.reads

    def test_a_store_that_went_back_is_followed_from_there(self, catalog, feed):
        """After that, changes are followed as before."""
        feed.put(entry("b"))
        catalog.current()
        feed.fail_over(1)
        catalog.current()
        feed.put(entry("c"))

        assert (2, ["a", "c"]) == seen(catalog)
        assert ["load", "load", "changes"] == feed.reads

    @pytest.mark.parametrize(
        ("written", "reads"), [("", ["load"]), ("x", ["load"]), ("xy", ["changes", "load"])]
    )
    def test_equal_numbers_are_not_equal_changes(self, catalog, feed, written, reads):
        """A history that lost a change, and has more, as many or fewer others, is loaded anew."""
        feed.put(entry("b"))
        feed.put_key("lost")
        assert (3, ["a", "b"]) == seen(catalog)
        feed.fail_over(1)
        feed.put_key("new")
        for name in written:
            feed.put(entry(name))

        assert (2 + len(written), ["a", *written]) == seen(catalog)
        assert ["new"] == [key.kid for key in catalog.current().keys]
        assert ["load", *reads] == feed.reads

    def test_what_another_thread_has_followed_may_be_lost(self, catalog, feed):
        """A thread that read a change which replaced a lost one does not take the lost one."""
        catalog.current()
        position = feed.position

        def late():
            feed.position = position
            feed.put(entry("lost"))
            catalog.current()  # another thread does so, and then the primary fails over
            feed.fail_over(1)
            feed.put(entry("new"))
            return position()

        feed.position = late

        assert (2, ["a", "new"]) == seen(catalog)

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["put", "remove", "key", "read", "lose", "fail", "heal", "failover"]
                ),
                st.sampled_from("abc"),
            ),
            max_size=20,
        )
    )
    def test_any_history_ends_in_what_is_stored(self, steps):
        """After any writes, outages, failovers and lost logs, what is served is what is stored."""
        feed = MemoryFeed()
        ticks = itertools.count()
        catalog = Catalog(feed, lambda: 0.0, lambda: next(ticks) * PAUSE / 2)
        catalog.current()
        for step, name in steps:
            if step == "put":
                feed.put(entry(name))
            elif step == "remove" and name in feed.models:
                feed.remove(name)
            elif step == "key":
                feed.put_key(name)
            elif step == "failover":
                feed.fail_over(max(1, feed.number - ord(name) % 3))
            elif step == "lose":
                feed.log.clear()
            elif step in ("fail", "heal"):
                feed.down = "gone" if step == "fail" else None
            catalog.current()
        feed.down = None
        for _ in range(2):  # a pause is over by then
            catalog.current()

        assert (feed.number, sorted(feed.models)) == seen(catalog)
        assert sorted(feed.keys) == sorted(key.kid for key in catalog.current().keys)


class TestOutage:
    def test_the_last_snapshot_goes_on_serving(self, catalog, feed):
        """While the store cannot be read, reads are answered from the last snapshot."""
        catalog.current()
        feed.put(entry("b"))
        feed.down = "disk gone"

        assert (1, ["a"]) == seen(catalog)
        assert "disk gone" == catalog.outage

    @pytest.mark.parametrize("call", ["changes_since", "load"])
    def test_an_outage_may_begin_in_the_middle(self, catalog, feed, call):
        """An outage that begins after the revision was read leaves the last snapshot whole."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = call == "load"
        feed.down = "disk gone"
        feed.failing = {call}

        assert (1, ["a"]) == seen(catalog)
        assert "disk gone" == catalog.outage

    def test_the_reason_is_that_of_the_last_failure(self, catalog, feed, monotonic):
        """An outage that changes its reason says so."""
        catalog.current()
        reasons = []
        for feed.down in ("locked", "locked", "disk gone"):
            monotonic.now += PAUSE
            catalog.current()
            reasons.append(catalog.outage)

        assert ["locked", "locked", "disk gone"] == reasons

    def test_the_age_counts_from_the_last_confirmation(self, catalog, feed, clock, monotonic):
        """The age of the snapshot counts from the store's last word, whatever the clock says."""
        ages = []
        catalog.current()
        for feed.down, passed in ((None, 2.0), (None, 1.0), ("gone", 4.0), ("gone", 8.0)):
            monotonic.now += passed
            clock.now -= 1000
            ages.append(catalog.age)
            catalog.current()
            ages.append(catalog.age)

        assert [2, 0, 1, 0, 4, 4, 12, 12] == ages

    def test_the_age_counts_from_the_question(self, catalog, feed, monotonic):
        """What the store takes to answer, and what a load takes, is part of the age."""
        position = feed.position

        def slow():
            found = position()
            monotonic.now += 3
            return found

        feed.position = slow
        catalog.current()

        assert 3 == catalog.age

    def test_a_stale_answer_is_called_so(self, catalog, feed, monotonic):
        """The snapshot comes with whether the store could be read."""
        first = catalog.current_or_stale()
        feed.down = "gone"
        answers = [catalog.current_or_stale() for _ in range(2)]
        feed.down = None
        monotonic.now += PAUSE
        answers.append(catalog.current_or_stale())

        snapshot = catalog.current()
        assert [(snapshot, False), (snapshot, True), (snapshot, True), (snapshot, False)] == [
            first,
            *answers,
        ]

    def test_the_store_recovers(self, catalog, feed, monotonic):
        """With the store back, what was written meanwhile is there and the outage is over."""
        catalog.current()
        feed.down = "gone"
        catalog.current()
        monotonic.now += 9
        feed.put(entry("b"))
        feed.down = None

        assert (2, ["a", "b"]) == seen(catalog)
        assert (None, 0) == (catalog.outage, catalog.age)
        assert ["load", "changes"] == feed.reads

    def test_without_any_snapshot_there_is_no_answer(self, catalog, feed):
        """Where nothing was ever loaded, the outage is the caller's, with its reason."""
        feed.down = "no file"
        with pytest.raises(StoreUnavailable) as caught:
            catalog.current()

        assert ("no file", "no file") == (caught.value.reason, catalog.outage)

    def test_a_first_snapshot_that_fails_is_tried_again(self, catalog, feed, monotonic):
        """A first snapshot that could not be loaded is loaded by a request after the pause."""
        feed.down = "locked"
        feed.failing = {"load"}
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                catalog.current()
        assert ["load"] == feed.reads
        feed.down = None
        monotonic.now += PAUSE

        assert (1, ["a"]) == seen(catalog)
        assert None is catalog.outage

    @pytest.mark.parametrize("call", ["position", "changes_since", "load"])
    def test_what_fails_is_tried_once_a_second(self, catalog, feed, monotonic, call):
        """After a failure the last snapshot serves, and the store is left alone for a while."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = call == "load"
        feed.down, feed.failing = "gone", {call}
        calls = []
        failing = getattr(feed, call)
        setattr(feed, call, lambda *given: calls.append(monotonic.now) or failing(*given))
        for _ in range(30):
            monotonic.now += PAUSE / 10
            for _ in range(5):
                assert (1, ["a"]) == seen(catalog)

        assert 3 == len(calls) == len({*calls})
        feed.down = None
        monotonic.now += PAUSE
        assert (2, ["a", "b"]) == seen(catalog)

    def test_an_outage_is_logged_at_its_ends(self, catalog, feed, monotonic, caplog):
        """The log has one line when an outage begins and one when it is over, not one a read."""
        catalog.current()
        for feed.down in ("gone", "gone", "gone", None, None):
            monotonic.now += PAUSE
            catalog.current()

        assert [
            ("ERROR", "The store cannot be read: gone"),
            ("WARNING", "The store can be read again."),
        ] == [(record.levelname, record.getMessage()) for record in caplog.records]

    def test_a_snapshot_may_become_too_old(self, feed, clock, monotonic):
        """Beyond the age that is allowed lists are refused, until the store is back."""
        catalog = Catalog(feed, clock, monotonic, max_stale=10)
        catalog.current()
        feed.down = "gone"
        ages = []
        for _ in range(12):
            monotonic.now += 1
            with suppress(StoreUnavailable):
                catalog.current()
                ages.append(catalog.age)

        assert [*range(1, 11)] == ages
        with pytest.raises(StoreUnavailable) as caught:
            catalog.current()
        too_old = "The last list is 12 seconds old, and ROSTER_MAX_STALE is 10: gone"
        assert too_old == caught.value.reason
        feed.down = None
        monotonic.now += PAUSE
        assert (1, ["a"]) == seen(catalog)


class TestStandby:
    def test_a_standby_serves_who_has_nothing(self, catalog, feed, monotonic):
        """Without a snapshot, a stale one of the standby serves until the store is back."""
        feed.standby = entry("old")
        feed.down = "no primary"
        for _ in range(3):
            monotonic.now += PAUSE
            assert (1, ["old"]) == seen(catalog)
            assert "no primary" == catalog.outage
        feed.down = None
        monotonic.now += PAUSE

        assert (1, ["a"]) == seen(catalog)
        assert (None, 0) == (catalog.outage, catalog.age)

    def test_a_standby_serves_nobody_where_lists_must_not_be_old(self, feed, clock, monotonic):
        """How old its list is, nobody knows: with an age that is allowed, there is no answer."""
        catalog = Catalog(feed, clock, monotonic, max_stale=10)
        feed.standby = entry("old")
        feed.down = "no primary"

        with pytest.raises(StoreUnavailable):
            catalog.current()

    def test_a_standby_replaces_no_snapshot(self, catalog, feed, monotonic):
        """What a worker has is newer than what a standby may have."""
        catalog.current()
        feed.standby = entry("old")
        feed.down = "no primary"
        monotonic.now += PAUSE

        assert (1, ["a"]) == seen(catalog)

    def test_a_standby_out_of_reach_is_an_outage(self, catalog, feed):
        """The reason is that of the store, and not that of the standby."""
        feed.down = "no primary"
        with pytest.raises(StoreUnavailable) as caught:
            catalog.current()

        assert "no primary" == caught.value.reason


class TestUnusable:
    @pytest.mark.parametrize(
        "fields",
        [
            {"shutdown_date": "2025-25-11"},
            {"deprecation": 5},
            {"available_from": "x"},
        ],
    )
    def test_an_entry_that_cannot_be_used_is_an_outage(self, catalog, feed, monotonic, fields):
        """What somebody wrote past us is loaded once a second, and the last snapshot serves."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = True
        broken = entry("b")
        for name, value in fields.items():
            object.__setattr__(broken, name, value)
        feed.models["b"] = broken
        feed.reads.clear()
        for _ in range(5):
            assert (1, ["a"]) == seen(catalog)

        assert catalog.outage.startswith("A stored entry cannot be used: ")
        assert ["changes", "load"] == feed.reads


class TestDates:
    @pytest.fixture
    def feed(self):
        return MemoryFeed(
            entry("new", available_from=MIDNIGHT + 10), entry("old", shutdown_date="2027-01-16")
        )

    def test_dates_change_the_list_without_a_write(self, catalog, feed, clock):
        """Entries come and go at their second, and nothing is read for it."""
        shown = []
        for seconds in (0, 9, 10, 24 * 60 * 60 - 1, 24 * 60 * 60):
            clock.now = MIDNIGHT + seconds
            shown.append(seen(catalog))

        assert [
            (1, ["old"]),
            (1, ["old"]),
            (1, ["new", "old"]),
            (1, ["new", "old"]),
            (1, ["new"]),
        ] == shown
        assert ["load"] == feed.reads

    def test_a_clock_set_back_shows_the_earlier_list(self, catalog, clock):
        """A clock that was wrong and is set right shows what the right time shows."""
        shown = []
        for seconds in (24 * 60 * 60, 10, 9, 10):
            clock.now = MIDNIGHT + seconds
            shown.append(seen(catalog)[1])

        assert [["new"], ["new", "old"], ["old"], ["new", "old"]] == shown

    def test_between_two_dates_the_snapshot_is_the_same(self, catalog, clock):
        """Between two dates nothing is computed anew."""
        first = catalog.current()
        clock.now += 9

        assert first is catalog.current()

    def test_dates_change_the_list_in_an_outage_too(self, catalog, feed, clock):
        """An entry goes at its date even while the store cannot be read."""
        catalog.current()
        feed.down = "gone"
        clock.now = MIDNIGHT + 24 * 60 * 60

        assert (1, ["new"]) == seen(catalog)

    def test_a_change_brings_its_own_dates(self, catalog, feed, clock):
        """The dates of an entry added later change the list as well."""
        catalog.current()
        feed.put(entry("later", available_from=MIDNIGHT + 5))
        before = seen(catalog)
        clock.now = MIDNIGHT + 5

        assert ((2, ["old"]), (2, ["later", "old"])) == (before, seen(catalog))


class TogetherFeed(MemoryFeed):
    """A feed that returns the revision to two threads at once."""

    together = None

    def position(self):
        number = super().position()
        if self.together is not None:
            self.together.wait(PATIENCE)
        return number


class TogetherClock:
    """A clock that returns the time to two threads at once."""

    def __init__(self, now):
        self.now = now
        self.together = None

    def __call__(self):
        if self.together is not None:
            self.together.wait(PATIENCE)
        return self.now


def follow_in_two_threads(catalog):
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(catalog.current) for _ in range(2)]
        return [answer.result(PATIENCE) for answer in asked]


class TestThreads:
    @pytest.fixture
    def feed(self):
        return TogetherFeed(entry("a"), entry("new", available_from=MIDNIGHT + 10))

    def test_two_threads_load_the_first_snapshot_once(self, catalog, feed):
        """Of two threads without a snapshot one loads it and both serve it."""
        feed.together = threading.Barrier(2)
        one, other = follow_in_two_threads(catalog)

        assert one is other
        assert ["load"] == feed.reads

    def test_two_threads_follow_a_change_once(self, catalog, feed):
        """Of two threads that notice a change one reads it and both serve it."""
        catalog.current()
        feed.put(entry("b"))
        feed.together = threading.Barrier(2)
        one, other = follow_in_two_threads(catalog)

        assert one is other
        assert (2, ["load", "changes"]) == (one.revision, feed.reads)

    def test_two_threads_load_a_restored_backup_once(self, catalog, feed):
        """Of two threads that notice a restored backup one loads it and both serve it."""
        feed.put(entry("b"))
        catalog.current()
        feed.fail_over(1)
        feed.together = threading.Barrier(2)
        one, other = follow_in_two_threads(catalog)

        assert one is other
        assert (1, ["load", "load"]) == (one.revision, feed.reads)

    def test_two_threads_meet_a_date_once(self, feed):
        """Of two threads that meet a date one makes the list and both serve it."""
        clock = TogetherClock(MIDNIGHT)
        catalog = Catalog(feed, clock, lambda: 0.0)
        catalog.current()
        clock.now = MIDNIGHT + 10
        clock.together = threading.Barrier(2)
        one, other = follow_in_two_threads(catalog)

        assert one is other
        assert ["a", "new"] == [model.id for model in listed(one.audiences.of_viewer(ANONYMOUS))]

    def test_a_thread_that_comes_late_does_not_go_back(self, catalog, feed):
        """A thread that read an older revision serves the newer snapshot that is there by now."""
        feed.put(entry("d"))
        feed.put(entry("e"))
        catalog.current()
        feed.put(entry("b"))
        read, go_on = threading.Event(), threading.Event()
        position_now = feed.position

        def slow_position():
            number = position_now()
            read.set()
            assert go_on.wait(PATIENCE)
            return number

        with ThreadPoolExecutor(1) as pool:
            feed.position = slow_position
            late = pool.submit(catalog.current)
            assert read.wait(PATIENCE)
            feed.position = position_now
            feed.put(entry("c"))
            newer = catalog.current()
            go_on.set()

            assert newer is late.result(PATIENCE)
        assert (5, ["load", "changes"]) == (newer.revision, feed.reads)

    def test_what_was_read_before_an_outage_does_not_end_it(self, catalog, feed):
        """An outage that begins while another thread reads is not over by what that one got."""
        catalog.current()
        read, go_on = threading.Event(), threading.Event()
        position_now = feed.position

        def slow_position():
            number = position_now()
            read.set()
            assert go_on.wait(PATIENCE)
            return number

        with ThreadPoolExecutor(1) as pool:
            feed.position = slow_position
            late = pool.submit(catalog.current)
            assert read.wait(PATIENCE)
            feed.position = position_now
            feed.down = "gone"
            catalog.current()
            go_on.set()
            late.result(PATIENCE)

            assert "gone" == catalog.outage

    @pytest.mark.parametrize("call", ["changes_since", "load"])
    def test_what_fails_for_one_thread_is_not_tried_by_those_that_wait(self, catalog, feed, call):
        """Of three threads that need a newer snapshot one reads; no other repeats its failure."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = call == "load"
        reads = len(feed.reads)
        begun, waiting = threading.Event(), threading.Barrier(3)
        failing, position_now = getattr(feed, call), feed.position

        def fail(*given):
            begun.set()
            waiting.wait(PATIENCE)  # until the others, too, know that the store has moved
            feed.down, feed.failing = "gone", {call}
            return failing(*given)

        def position():
            number = position_now()
            if begun.is_set():
                waiting.wait(PATIENCE)
            return number

        setattr(feed, call, fail)
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(seen, catalog)
            assert begun.wait(PATIENCE)
            feed.position = position
            others = [pool.submit(seen, catalog) for _ in range(2)]
            answers = {str(each.result(PATIENCE)) for each in (first, *others)}

        assert {str((1, ["a"]))} == answers
        assert 1 + (call == "load") == len(feed.reads) - reads

    @pytest.mark.parametrize("call", ["position", "load"])
    def test_one_thread_at_a_time_tries_again(self, catalog, feed, monotonic, call):
        """A try that takes longer than the pause keeps one thread, and all others are answered."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = True
        feed.down, feed.failing = "gone", {call}
        catalog.current()
        begun, go_on, tries = threading.Event(), threading.Event(), []
        failing = getattr(feed, call)

        def slow(*given):
            tries.append(given)
            begun.set()
            assert go_on.wait(PATIENCE)
            return failing(*given)

        setattr(feed, call, slow)
        monotonic.now += PAUSE
        with ThreadPoolExecutor(4) as pool:
            slowest = pool.submit(seen, catalog)
            assert begun.wait(PATIENCE)
            for _ in range(3):
                monotonic.now += PAUSE
                others = [pool.submit(seen, catalog) for _ in range(3)]
                assert [(1, ["a"])] * 3 == [each.result(PATIENCE) for each in others]
            assert 1 == len(tries)
            go_on.set()
            assert (1, ["a"]) == slowest.result(PATIENCE)
        assert (1, ["a"]) == seen(catalog)  # the pause begins when the try has ended
        assert 1 == len(tries)

    def test_a_failure_is_noted_before_another_thread_may_repeat_it(self, catalog, feed):
        """A thread that waits for the snapshot learns that it failed, however late it goes on."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = True
        begun, repeated = threading.Event(), threading.Event()
        moved = threading.Barrier(2)
        position_now = feed.position

        class SlowlyNoted(StoreUnavailable):
            @property
            def reason(self):
                repeated.wait(0.2)  # seconds for the other thread to do it wrong
                return "gone"

            @reason.setter
            def reason(self, _):
                pass

        def load(**_):
            if begun.is_set():
                repeated.set()
            else:
                begun.set()
                moved.wait(PATIENCE)
            raise SlowlyNoted("gone")

        def position():
            number = position_now()
            if begun.is_set():
                moved.wait(PATIENCE)
            return number

        feed.load = load
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(seen, catalog)
            assert begun.wait(PATIENCE)
            feed.position = position
            second = pool.submit(seen, catalog)

            assert [(1, ["a"])] * 2 == [first.result(PATIENCE), second.result(PATIENCE)]
        assert not repeated.is_set()

    def test_a_try_that_succeeds_ends_no_later_outage(self, catalog, feed, monotonic):
        """What a try has read says nothing of a failure that another thread met after it."""
        catalog.current()
        read = [threading.Event(), threading.Event()]
        go_on = [threading.Event(), threading.Event()]
        position_now, calls = feed.position, itertools.count()

        def slow_position():
            number = next(calls)
            position = position_now()
            read[number].set()
            assert go_on[number].wait(PATIENCE)
            if number == 0:
                raise StoreUnavailable("gone")
            return position

        with ThreadPoolExecutor(2) as pool:
            feed.position = slow_position
            early = pool.submit(catalog.current)  # it asked before there was an outage
            assert read[0].wait(PATIENCE)
            feed.position = position_now
            feed.down = "locked"
            catalog.current()
            feed.down = None
            monotonic.now += PAUSE
            feed.position = slow_position
            trying = pool.submit(catalog.current)
            assert read[1].wait(PATIENCE)
            go_on[0].set()
            early.result(PATIENCE)
            go_on[1].set()
            trying.result(PATIENCE)

        assert "gone" == catalog.outage

    def test_who_needs_no_newer_snapshot_waits_for_none(self, catalog, feed, clock):
        """While one thread loads, others whose store is out of reach are answered, dates too."""
        catalog.current()
        feed.put(entry("b"))
        feed.logs_lost = True
        begun, go_on = threading.Event(), threading.Event()
        load = feed.load

        def slow_load():
            snapshot = load()
            begun.set()
            assert go_on.wait(PATIENCE)
            return snapshot

        feed.load = slow_load
        with ThreadPoolExecutor(2) as pool:
            loading = pool.submit(catalog.current)
            assert begun.wait(PATIENCE)
            feed.down, feed.failing = "gone", {"position"}
            assert (1, ["a"]) == pool.submit(seen, catalog).result(PATIENCE)
            clock.now = MIDNIGHT + 10
            assert (1, ["a", "new"]) == pool.submit(seen, catalog).result(PATIENCE)
            go_on.set()

            assert 2 == loading.result(PATIENCE).revision
        assert (2, ["a", "b", "new"]) == seen(catalog)
