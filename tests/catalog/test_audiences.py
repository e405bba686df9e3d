"""Audiences: what each viewer sees, and what a thousand of them hold."""

import gc
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.audiences import AccessIndex, Audience, Audiences
from app.catalog.lifecycle import is_live
from app.catalog.model import Permission
from app.catalog.paging import EVERYTHING, cut
from app.catalog.ports import Changes
from app.catalog.visibility import ANONYMOUS, Viewer, is_visible
from tests.catalog.samples import (
    ACME,
    MIDNIGHT,
    dated_entries,
    entries,
    entry,
    instants,
    items,
    listed,
    model_ids,
    snapshot,
)

VIEWERS = [
    Viewer(organization, frozenset(groups))
    for organization in (None, "acme", "globex")
    for groups in ((), ("red",), ("red", "blue"))
]

permissions = st.lists(
    st.builds(
        Permission,
        id=st.just("modelperm-x"),
        created=st.just(0),
        organization=st.sampled_from(["*", "*", "acme", "globex"]),
        group=st.sampled_from([None, None, "red", "blue"]),
        allow_view=st.sampled_from([True, True, False]),
        is_blocking=st.sampled_from([False, False, False, True]),
    ),
    max_size=3,
).map(tuple)
permitted = st.builds(
    lambda model, permission: entry(
        model.id,
        permission=permission,
        available_from=model.available_from,
        shutdown_date=model.shutdown_date,
        deprecation=model.deprecation,
        aliases=model.aliases,
        list_aliases=model.list_aliases,
    ),
    dated_entries,
    permissions,
)
steps = st.lists(
    st.tuples(st.dictionaries(model_ids, st.none() | permitted, max_size=4), instants), max_size=6
)


def named(changed):
    """Return changed entries under the ids that they were drawn for."""
    return {i: m and entry(i, **{f: getattr(m, f) for f in FIELDS}) for i, m in changed.items()}


FIELDS = (
    *("permission", "available_from", "shutdown_date", "deprecation", "aliases", "list_aliases"),
)


@given(st.lists(permitted, max_size=8, unique_by=lambda m: m.id), instants, steps)
def test_each_viewer_sees_what_the_rule_says(models, now, history):
    """After any writes and dates, each viewer's audience has the items that the rule shows."""
    current = snapshot(models, now=now)
    for revision, (changed, moment) in enumerate(history, 2):
        current = current.apply(Changes(revision, named(changed), {}), moment).at(now)
    shown = items(current.models)
    assert {name for name, m in shown.items() if is_live(m, now)} == {
        m.id for m in current.audiences.live
    }
    for viewer in VIEWERS:
        expected = [
            current.audiences.live.get(name)
            for name, m in shown.items()
            if is_visible(m, viewer, now)
        ]
        audience = current.audiences.of_viewer(viewer)

        rules = current.audiences.find_rules(viewer)
        by_rule = cut([current.audiences.live], EVERYTHING, rules).models
        assert [*map(id, expected)] == [*map(id, listed(audience))] == [*map(id, by_rule)]
        assert len(expected) == audience.size


@given(st.lists(permitted, max_size=8, unique_by=lambda m: m.id), instants, steps)
def test_the_state_is_that_of_the_entries(models, now, history):
    """Of any two viewers at any two times: an equal state is the very same entries."""
    seen = {}
    current = snapshot(models, now=now)
    for revision, (changed, moment) in enumerate([*history, ({}, now)], 2):
        audiences = [current.audiences.of_viewer(viewer) for viewer in VIEWERS]
        for audience in audiences:
            shown = tuple(map(id, listed(audience)))
            assert shown == seen.setdefault(audience.state, shown)
        lists = {tuple(map(id, listed(audience))) for audience in audiences}
        assert len(lists) == len({audience.state for audience in audiences})
        current = current.apply(Changes(revision, named(changed), {}), moment)


def test_viewers_that_see_the_same_are_one_audience():
    """Keys of many organizations that see the same entries share everything."""
    taken = snapshot([*entries("a"), entry("b", permission=())])

    assert taken.audiences.of_viewer(ANONYMOUS) is taken.audiences.of_viewer(ACME)


def test_viewers_that_are_shown_other_permissions_are_two_audiences():
    """Organizations that no entry names are one; an organization that is named is another."""
    public = Permission(id="p", created=0)
    own = Permission(id="q", created=0, organization="acme")
    taken = snapshot([entry("a", permission=(public, own)), *entries("b")])

    assert taken.audiences.of_viewer(ANONYMOUS) is taken.audiences.of_viewer(
        Viewer("globex", frozenset({"red"}))
    )
    assert taken.audiences.of_viewer(ANONYMOUS) is not taken.audiences.of_viewer(ACME)
    assert taken.audiences.of_viewer(ANONYMOUS).name == taken.audiences.of_viewer(ACME).name


def test_an_audience_keeps_its_name():
    """A change leaves the name of each audience, and the state of those that do not see it."""
    old = snapshot([*entries("a"), entry("b", organization="acme")])
    changed = old.apply(Changes(2, {"b": entry("b", organization="acme")}, {}), MIDNIGHT)
    for viewer, is_same in ((ACME, False), (ANONYMOUS, True)):
        before, after = old.audiences.of_viewer(viewer), changed.audiences.of_viewer(viewer)

        assert before.name == after.name
        assert is_same == (before.state == after.state)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_entries_that_change_their_rule_together_are_all_live(order):
    """Of the entry whose new rule is another's old one, the new state counts."""
    old = snapshot([entry("a", organization="acme"), *entries("b")])
    moved = {"a": entry("a"), "b": entry("b", organization="acme")}
    changed = old.apply(Changes(2, {i: moved[i] for i in order}, {}), MIDNIGHT)

    assert changed.models == changed.audiences.live


def test_a_date_that_changes_nothing_changes_no_audience():
    """An entry that is retired before it appears is nowhere at any date."""
    never = entry("b", available_from=MIDNIGHT + 5, shutdown_date="2027-01-15")
    old = snapshot([*entries("a"), never])
    moved = old.at(MIDNIGHT + 5)

    assert old.since != moved.since
    assert old.audiences.of_viewer(ANONYMOUS) is moved.audiences.of_viewer(ANONYMOUS)


def many(organizations, public):
    """Return a snapshot with so many public entries, and one of each organization."""
    private = [entry(f"own-{n}", organization=f"org-{n}") for n in range(organizations)]
    return snapshot([*entries(*(f"all-{n}" for n in range(public))), *private])


def of_many(model_id, organizations, **fields):
    """Return an entry that these organizations see."""
    permission = tuple(
        Permission(id="p", created=0, organization=f"org-{n}") for n in organizations
    )
    return entry(model_id, permission=permission, **fields)


@pytest.mark.parametrize("number", [20, 2000])
def test_a_viewer_costs_the_rules_that_it_sees(number, monkeypatch):
    """However many viewers there are, each looks up its own scopes and two lists of entries."""
    current = many(number, 3)
    viewers = [Viewer(f"org-{n}") for n in range(number)]
    asked = []

    class Watched(dict):
        def get(self, scope, default=None):
            asked.append(scope)
            return super().get(scope, default)

    index = current.audiences.index
    index = AccessIndex(index.entries, Watched(index.allowing), Watched(index.blocking))
    watched = Audiences(index, current.models)
    names = {watched.of_viewer(viewer).name for viewer in viewers}

    assert number == len(names)
    assert 4 * number == len(asked)  # two scopes, in two indexes


def test_a_write_makes_one_list_anew():
    """A write to the entries of one rule leaves the lists of all others where they are."""
    current = many(2000, 1000)
    written = current.apply(Changes(2, {"all-1": entry("all-1", name="new")}, {}), MIDNIGHT)
    before, after = (
        {*map(id, s.audiences.of_viewer(Viewer("org-7")).lists)} for s in (current, written)
    )

    assert (1, 1, 1) == (len(before - after), len(before & after), len(after - before))
    assert before.isdisjoint({id(written.models)})


def held(current, viewers):
    """Return the bytes that the audiences of these viewers take, for each of them."""
    gc.collect()
    tracemalloc.start()
    for viewer in viewers:
        current.audiences.of_viewer(viewer)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / len(viewers)


def test_an_audience_is_small_whatever_it_sees():
    """It holds less than a list of 100 entries, of one rule or of as many as entries."""
    viewers = [Viewer(f"org-{n}") for n in range(1000)]
    one_rule = many(1000, 3000)
    rules = snapshot([of_many(f"e-{n}", (n, *range(990, 1000))) for n in range(990)])
    limit = sys.getsizeof([None] * 100)

    assert 990 == len(rules.audiences.find_rules(viewers[-1]))
    assert held(one_rule, viewers) < limit
    assert held(rules, [*viewers[-10:]] * 10 + viewers) < limit


def test_viewers_without_end_are_forgotten(monkeypatch):
    """However many viewers there are, so many are cached, and each sees what it may."""
    computed = []
    allowed = AccessIndex.allowed
    monkeypatch.setattr(
        AccessIndex, "allowed", lambda *given: computed.append(1) or allowed(*given)
    )
    monkeypatch.setattr("app.catalog.audiences.MOST_VIEWERS", 10)
    current = many(100, 1)
    gc.collect()
    before = [id(o) for o in gc.get_objects() if isinstance(o, Audience)]
    for number in [*range(100), *reversed(range(100))]:
        audience = current.audiences.of_viewer(Viewer(f"org-{number}"))
        assert ["all-0", f"own-{number}"] == [model.id for model in listed(audience)]
    others = [current.audiences.of_viewer(Viewer(f"other-{number}")) for number in range(100)]
    audiences = [o for o in gc.get_objects() if isinstance(o, Audience) and id(o) not in before]

    assert 190 + 100 == len(computed)
    assert all(listed(others[0]) == listed(other) for other in others)
    assert len({*map(id, audiences)} - {*map(id, others)}) <= 10


def test_an_old_state_is_let_go():
    """Audiences of many states in a row hold the last one, and no list of those before."""
    current = many(50, 3000)
    viewers = [Viewer(f"org-{n}") for n in range(50)]
    sizes = []
    tracemalloc.start()
    for number in range(200):
        for viewer in viewers:
            current.audiences.of_viewer(viewer)
        changed = {"all-1": entry("all-1", name=str(number))}
        current = current.apply(Changes(number, changed, {}), MIDNIGHT)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert sizes[-1] < sizes[20] + sys.getsizeof([None] * 3000)


def test_rules_that_come_and_go_leave_nothing():
    """Organizations whose last entry is removed are forgotten, and so are those it blocked."""
    current = many(1, 1)
    before = current.audiences.index
    for number in range(100):
        blocking = Permission(
            id="p", created=0, organization=f"blocked-{number}", is_blocking=True
        )
        owned = of_many("x", [number])
        owned = entry("x", permission=(*owned.permission, blocking))
        current = current.apply(Changes(number, {"x": owned}, {}), MIDNIGHT)
    current = current.apply(Changes(100, {"x": None}, {}), MIDNIGHT)
    after = current.audiences.index

    assert before.entries == after.entries
    assert (before.allowing, before.blocking) == (after.allowing, after.blocking)
