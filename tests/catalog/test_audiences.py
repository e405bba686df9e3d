"""Audiences: what each viewer sees, told apart by content, and what a thousand of them hold."""

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog import audiences
from app.catalog.model import Permission
from app.catalog.ports import Changes
from app.catalog.visibility import ANONYMOUS, Viewer, is_visible
from tests.catalog.samples import (
    ACME,
    MIDNIGHT,
    dated_entries,
    entries,
    entry,
    ids,
    instants,
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


FIELDS = ("permission", "available_from", "shutdown_date", "deprecation")


@given(st.lists(permitted, max_size=8, unique_by=lambda m: m.id), instants, steps)
def test_each_viewer_sees_what_the_rule_says(models, now, history):
    """After any writes and dates, each viewer's audience has the entries that the rule shows."""
    current = snapshot(models, now=now)
    for revision, (changed, moment) in enumerate(history, 2):
        current = current.apply(Changes(revision, named(changed), {}), moment).turn(now)
    for viewer in VIEWERS:
        expected = [m for m in current.models if is_visible(m, viewer, now)]
        audience = current.audience(viewer)

        assert [*map(id, expected)] == [*map(id, audience.models)]
        assert len(expected) == sum(map(len, audience.lists))


@given(st.lists(permitted, max_size=8, unique_by=lambda m: m.id), instants, steps)
def test_content_is_the_same_for_the_same_entries_and_no_others(models, now, history):
    """Of any two viewers at any two times: equal content is the very same entries."""
    seen = {}
    current = snapshot(models, now=now)
    for revision, (changed, moment) in enumerate([*history, ({}, now)], 2):
        for viewer in VIEWERS:
            audience = current.audience(viewer)
            shown = tuple(map(id, audience.models))
            assert shown == seen.setdefault(audience.content, shown)
        of_state = {current.audience(v).content: current.audience(v).models for v in VIEWERS}
        lists = {tuple(map(id, models)) for models in of_state.values()}
        assert len(lists) == len(of_state)
        current = current.apply(Changes(revision, named(changed), {}), moment)


def test_viewers_that_see_the_same_are_one_audience():
    """Keys of many organizations that see the same entries share everything."""
    taken = snapshot([*entries("a"), entry("b", permission=())])

    assert taken.audience(ANONYMOUS) is taken.audience(ACME)


def test_an_audience_keeps_its_name():
    """A change leaves the name of each audience, and the content of those that do not see it."""
    old = snapshot([*entries("a"), entry("b", organization="acme")])
    changed = old.apply(Changes(2, {"b": entry("b", organization="acme")}, {}), MIDNIGHT)
    for viewer, is_same in ((ACME, False), (ANONYMOUS, True)):
        before, after = old.audience(viewer), changed.audience(viewer)

        assert before.name == after.name
        assert is_same == (before.content == after.content)


def many(organizations, public):
    """Return a snapshot with so many public entries, and one of each organization."""
    private = [entry(f"own-{n}", organization=f"org-{n}") for n in range(organizations)]
    return snapshot([*entries(*(f"all-{n}" for n in range(public))), *private])


@pytest.fixture
def calls(monkeypatch):
    """Return a list of the arguments with which the rule was asked."""
    asked = []
    permits = audiences.permits

    def counted(rule, viewer):
        asked.append((rule, viewer))
        return permits(rule, viewer)

    monkeypatch.setattr(audiences, "permits", counted)
    return asked


@pytest.mark.parametrize("number", [20, 2000])
def test_a_viewer_is_compared_with_no_other(calls, number):
    """Each viewer costs the rules that name it, two here, however many viewers there are."""
    current = many(number, 3)
    viewers = [Viewer(f"org-{n}") for n in range(number)]
    found = {current.audience(viewer).name for viewer in viewers}

    assert number == len(found)
    assert 2 * number == len(calls)
    calls.clear()
    written = current.apply(Changes(2, {"all-1": entry("all-1", name="new")}, {}), MIDNIGHT)
    assert [{None, "new"}] * number == [
        {m.name for m in written.audience(v).models} for v in viewers
    ]
    assert [] == calls
    added = written.apply(Changes(3, {"x": entry("x", organization="org-1")}, {}), MIDNIGHT)
    assert ["own-1", "x"] == ids(added.audience(viewers[1]).models)[3:]


def test_a_write_makes_one_list_anew():
    """A write to one group leaves the lists of all others where they are."""
    current = many(2000, 1000)
    written = current.apply(Changes(2, {"all-1": entry("all-1", name="new")}, {}), MIDNIGHT)
    before, after = ({*map(id, s.audience(Viewer("org-7")).lists)} for s in (current, written))

    assert (1, 1, 1) == (len(before - after), len(before & after), len(after - before))


def test_an_audience_is_small_whatever_it_sees():
    """2,000 audiences of 3,000 entries hold less than a list of 100 entries each."""
    current = many(2000, 3000)
    viewers = [Viewer(f"org-{n}") for n in range(2000)]
    tracemalloc.start()
    for viewer in viewers:
        current.audience(viewer)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken / 2000 < sys.getsizeof([None] * 100)


def test_an_old_state_is_let_go():
    """Audiences of many states in a row hold the last one, and no list of those before."""
    current = many(50, 3000)
    viewers = [Viewer(f"org-{n}") for n in range(50)]
    sizes = []
    tracemalloc.start()
    for number in range(200):
        for viewer in viewers:
            current.audience(viewer)
        changed = {"all-1": entry("all-1", name=str(number))}
        current = current.apply(Changes(number, changed, {}), MIDNIGHT)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert sizes[-1] < sizes[20] + sys.getsizeof([None] * 3000)


def test_rules_that_come_and_go_leave_nothing():
    """Organizations whose last entry is removed are forgotten."""
    current = many(1, 1)
    for number in range(100):
        owned = {"x": entry("x", organization=f"passing-{number}")}
        current = current.apply(Changes(number, owned, {}), MIDNIGHT)
    current = current.apply(Changes(100, {"x": None}, {}), MIDNIGHT)

    assert {("*", None), ("org-0", None)} == {*current._audiences._rules}
