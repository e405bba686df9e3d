"""Properties of random histories: what was can be read again, and brought back."""

from collections import defaultdict
from datetime import UTC, datetime
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.administration.edits import select_ids
from app.administration.plans import Applying
from app.catalog.errors import InvalidValue, RosterError
from app.catalog.filters import Filter, Selection, read_viewer
from app.catalog.history import LogFilter
from app.catalog.lifecycle import rfc3339
from app.catalog.model import Model
from app.catalog.ports import Change, StoredCatalog
from app.catalog.snapshot import Snapshot
from app.store.documents import read_model, write_model
from app.strict_json import dump
from tests.administration.conftest import ANNA

IDS = ["a", "B", "b/c", "d:e", "f"]
NAMES = [*IDS, "x", "y"]
SOURCES = ["s", "t"]
HOURS = [-30, -1, 0, 1, 30]

fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["A", "é"]),
        "permission": st.sampled_from(
            [[], [{"organization": "acme"}], [{}, {"organization": "acme", "is_blocking": True}]]
        ),
        "aliases": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        "list_aliases": st.booleans(),
        "context_length": st.integers(1, 3),
        "max_input_tokens": st.integers(1, 3),
        "pricing": st.sampled_from([{}, {"prompt": "0.1"}]),
        "deprecation_replacement_model": st.sampled_from(NAMES),
        # In hours from the time of the change on.
        "available_from": st.sampled_from(HOURS),
        "deprecation": st.sampled_from(HOURS),
        "shutdown_date": st.sampled_from(HOURS),
    },
)
options = st.fixed_dictionaries(
    {"source": st.sampled_from(SOURCES)},
    optional={
        "on_conflict": st.sampled_from(["skip", "update"]),
        "hidden": st.booleans(),
        "prune": st.booleans(),
        "retire": st.sampled_from(HOURS),
        "force": st.booleans(),
    },
)
STEPS = ("add", "edit", "remove", "load", "edit_many", "remove_many", "key", "undo", "revert")
steps = st.fixed_dictionaries(
    {
        "name": st.sampled_from(STEPS),
        "ids": st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True),
        "fields": st.lists(fields, min_size=4, max_size=4),
        "options": options,
        "number": st.integers(0, 20),
        "flag": st.booleans(),
        "seconds": st.sampled_from([0, 0, 1, 3600, 100_000]),
    }
)
histories = st.lists(steps, min_size=2, max_size=12)
few = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(few, max_examples=100)

VIEWERS = [read_viewer(text) for text in ("", "acme")]
CONDITIONS = [
    *(Filter(lifecycle=stage) for stage in ("upcoming", "active", "deprecated", "retired")),
    *(Filter(hidden=is_hidden) for is_hidden in (False, True)),
    *(Filter(visible_to=viewer) for viewer in VIEWERS),
]


def shown(models):
    """Return all that a reply has of entries."""
    return [(m, m.is_deprecated, m.references) for m in models]


def lists(entries):
    """Return what administrators find by each condition, and what viewers find."""
    found = [Selection(condition=c).page(entries).models for c in CONDITIONS]
    snapshot = Snapshot.of(StoredCatalog(0, entries.models, ()), entries.since)
    audiences = [snapshot.audiences.of_viewer(viewer) for viewer in VIEWERS]
    seen = [shown(sorted(chain(*audience.lists), key=lambda m: m.id)) for audience in audiences]
    return found, seen, shown(snapshot.audiences.live)


class Past:
    """A random history, and what was read after each of its steps."""

    def __init__(self, roster, clock):
        self.roster, self.clock = roster, clock
        clock.now += 1_000_000
        with roster.store.transaction(actor=ANNA, now=int(clock.now)) as transaction:
            if stored := roster.store.load().models:
                transaction.write([Change(model, None) for model in stored], "import:none")
        self.first, self.keys = roster.revision, roster.store.keys()
        with roster.store.writer.connection() as connection:  # the log of other examples
            connection.exec_driver_sql("UPDATE catalogue SET pruned = revision")
            connection.exec_driver_sql(
                "DELETE FROM changes WHERE revision < (SELECT pruned FROM catalogue)"
            )
        #: By revision and by time the snapshot and the export.
        self.at_revision, self.at_time = {}, {}
        #: By revision who has set the fields.
        self.setters = {}
        self.keep()

    def keep(self):
        """Read what is there now."""
        roster = self.roster
        snapshot = roster.catalog.current()
        read = lists(snapshot), roster.export()
        self.at_revision.setdefault(snapshot.revision, read)
        self.at_time[int(self.clock.now)] = read
        self.setters[snapshot.revision] = {s: roster.store.log.setters(IDS, s) for s in SOURCES}

    def lines(self):
        """Return the lines of the log, oldest first."""
        number = self.roster.revision - self.first
        return self.roster.store.log.lines(LogFilter(), number)[::-1]

    def go_on(self, step):
        """Change something, or nothing if it is refused."""
        self.clock.now += step["seconds"]
        if step["seconds"]:
            self.at_time.pop(int(self.clock.now), None)
            self.keep()
        before = self.roster.revision, self.roster.export()
        refused = None
        try:
            getattr(self, step["name"])(step)
        except RosterError as error:
            refused = error
        self.keep()

        assert self.keys == self.roster.store.keys()
        if refused is not None:
            assert str(refused)
            assert before == (self.roster.revision, self.roster.export())

    def body(self, given):
        """Return the body of an entry, with dates so many hours from now on."""
        now, found = self.clock.now, dict(given)
        if "available_from" in given:
            found["available_from"] = int(now) + 3600 * given["available_from"]
        if "deprecation" in given:
            found["deprecation"] = rfc3339(now + 3600 * given["deprecation"])
        if "shutdown_date" in given:
            found["shutdown_date"] = self.day(given["shutdown_date"])
        return found

    def day(self, hours):
        return datetime.fromtimestamp(self.clock.now + 3600 * hours, UTC).date().isoformat()

    def add(self, step):
        self.roster.add(step["ids"][0], **self.body(step["fields"][0]))

    def edit(self, step):
        self.roster.edit(step["ids"][0], **self.body(step["fields"][0]))

    def remove(self, step):
        self.roster.remove(step["ids"][0])

    def load(self, step):
        rows = [
            {"id": model_id, **self.body(given)}
            for model_id, given in zip(step["ids"], step["fields"], strict=False)
        ]
        chosen = dict(step["options"])
        if "retire" in chosen:
            chosen["retire"] = self.day(chosen["retire"])
        self.roster.take(rows, partial=step["flag"], **chosen)

    def edit_many(self, step, patch=None):
        patch = self.body(step["fields"][0]) if patch is None else patch
        self.change_many(step, {n: v for n, v in patch.items() if n != "aliases"})

    def remove_many(self, step):
        self.change_many(step, None)

    def change_many(self, step, patch):
        def select(snapshot):
            found = select_ids(step["ids"], snapshot)
            return [m for m in found if isinstance(m, Model) or step["flag"]]

        self.roster.catalogues.edit_models(select, patch, Applying(), actor=ANNA)

    def key(self, step):
        administration = self.roster.administration
        active = [key for key in self.keys if key.revoked_at is None and key.scopes == ("read",)]
        if active and step["flag"]:
            administration.revoke_key(active[0].kid, actor=ANNA)
        else:
            administration.create_key({"name": "k"}, actor=ANNA)
        self.keys = self.roster.store.keys()

    def undo(self, step):
        """Take an act back; check that its entries, and no others, are what they were."""
        acts = defaultdict(list)
        for line in self.lines():
            acts[line.batch].append(line)
        if not acts:
            return
        of_act = acts[sorted(acts)[-1 - step["number"] % len(acts)]]
        only = of_act[-1].model_id if step["number"] % 3 == 0 else None
        if of_act[0].kid is not None:
            with pytest.raises(InvalidValue, match="what was done to keys stays"):
                self.roster.undo(of_act[0].revision)
            return
        before = documents(self.roster.entries().values())
        self.roster.undo(of_act[-1].revision, only, force=step["flag"])
        targets = {}
        for line in of_act:
            if only in (None, line.model_id):
                targets.setdefault(line.model_id, line.before and dump(dict(line.before)))

        assert present({**before, **targets}) == documents(self.roster.entries().values())

    def revert(self, step):
        revision = sorted(self.at_revision)[step["number"] % len(self.at_revision)]
        if step["flag"]:
            self.roster.revert(revision, step["ids"][0])
        else:
            self.return_to(revision)

    def return_to(self, revision):
        """Put everything back; check that it is what it was, and who has set what."""
        batch = self.roster.revision + 1
        self.roster.revert(revision)

        assert self.at_revision[revision][1] == self.roster.export()
        returned = {line.model_id for line in self.lines() if line.batch == batch}
        for source, setters in self.setters[revision].items():
            found = self.roster.store.log.setters(IDS, source)

            assert {i: setters[i] for i in returned} == {i: found[i] for i in returned}

    def check(self):
        """Check that all that was read can be read again, and that the log is whole."""
        roster = self.roster
        for revision, read in self.at_revision.items():
            assert read == self.read(revision)
        for time, read in self.at_time.items():
            assert read == self.read(time)
            assert read == self.read(rfc3339(time))
        replayed = {}
        lines = self.lines()

        assert [*range(self.first + 1, roster.revision + 1)] == [line.revision for line in lines]
        last = self.first
        for line in lines:
            last = max(last, line.at)
            if line.model_id is not None:
                before, after = (text and dump(dict(text)) for text in (line.before, line.after))

                assert replayed.get(line.model_id) == before
                replayed[line.model_id] = after
            self.check_inside(line, present(replayed))

    def read(self, when):
        current = self.roster.catalog.current()
        moment = self.roster.history.find(str(when), current)
        found = self.roster.history.as_of(moment, current)
        return lists(found), self.roster.export(as_of=when)

    def check_inside(self, line, replayed):
        """Check the state after any line, which may be in the middle of an act."""
        current = self.roster.catalog.current()
        moment = self.roster.history.find(str(line.revision), current)
        found = self.roster.history.as_of(moment, current)
        models = [read_model(text, 0) for text in replayed.values()]
        expected = Snapshot.of(StoredCatalog(line.revision, models, ()), line.at)

        assert replayed == documents(found.models)
        assert lists(expected) == lists(found)


def documents(models):
    return {model.id: write_model(model) for model in models}


def present(texts):
    return {model_id: text for model_id, text in texts.items() if text is not None}


def check_history(roster, clock, history, numbers):
    """Make a history; read it again, return to moments of it, and take that back."""
    past = Past(roster, clock)
    for step in history:
        past.go_on(step)
    past.check()
    for number in (*numbers, 0):
        revision = sorted(past.at_revision)[number % len(past.at_revision)]
        before, start = roster.export(), roster.revision
        past.return_to(revision)
        if roster.revision > start:
            roster.undo()

            assert before == roster.export()
            roster.undo()

            assert past.at_revision[revision][1] == roster.export()
        past.keep()
    past.check()

    assert past.keys == roster.store.keys()


returns = st.lists(st.integers(0, 20), max_size=3)


def test_what_was_can_be_read_and_brought_back(new_roster, clock):
    """As of each revision and time it is what was read then; a return and an undo give it again.

    Keys are what they were, whatever is taken back.
    """
    roster = new_roster()

    @few
    @given(histories, returns)
    def each_history(history, numbers):
        check_history(roster, clock, history, numbers)

    each_history()


@pytest.mark.slow
@pytest.mark.databases("sqlite", "postgresql")
def test_many_histories(roster, clock):
    """It is so for many histories, on both databases."""

    @many
    @given(histories, returns)
    def each_history(history, numbers):
        check_history(roster, clock, history, numbers)

    each_history()
