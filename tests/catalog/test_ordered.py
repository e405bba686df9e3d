"""Entries in order of id: what is found, changed and searched is what a plain list would give."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog import ordered
from app.catalog.ordered import OrderedModels
from tests.catalog.samples import catalogs, entries, entry, ids, model_ids, snapshot

#: Those of the samples, and one that no entry has.
RULES = [entry("a", organization=organization).rule for organization in ("*", "acme", "nobody")]


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    """Let a dozen entries be several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "CHUNK", 3)
        yield


@given(
    catalogs,
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()),
    st.none() | st.sampled_from(["custom", "openai", "nobody", ""]),
    st.none() | st.text("aAbB-ß9", max_size=2),
    st.none() | st.sets(st.sampled_from(RULES)),
)
def test_a_search_finds_all_that_match(models, part, owned_by, q, rules):
    """Between any two indexes, each entry with this owner and text is found, in order."""
    listed = snapshot(models).models
    start, stop, backwards = part
    folded = None if q is None else q.casefold()
    stop = min(stop, len(listed))
    expected = [
        model
        for model in listed[start:stop]
        if owned_by in (None, model.owned_by)
        and (folded is None or any(folded in (t or "").casefold() for t in (model.id, model.name)))
        and (rules is None or model.rule in rules)
    ]
    if backwards:
        expected.reverse()

    for _ in range(2):  # what the first search has prepared serves the second
        found = listed.matching(
            start, stop, owned_by=owned_by, q=folded, rules=rules, backwards=backwards
        )
        assert expected == list(found)


@settings(max_examples=50)
@given(
    catalogs,
    st.lists(st.dictionaries(model_ids, st.none() | st.text("ab", max_size=1), max_size=4)),
)
def test_a_changed_list_is_searched_as_it_is(models, changes):
    """However a list came about, its entries are in order, and searches find them."""
    listed = snapshot(models).models
    expected = {model.id: model for model in listed}
    for change in changes:
        news = {i: None if name is None else entry(i, name=name) for i, name in change.items()}
        list(listed.matching(0, len(listed), owned_by="x", q="x"))  # prepares the older list
        listed = listed.changed(news)
        expected |= news
    left = [model for _, model in sorted(expected.items()) if model is not None]

    assert left == listed
    assert all(listed.get(i) is expected[i] for i in expected)
    assert [m for m in left if "a" in m.search_text] == list(
        listed.matching(0, len(listed), owned_by=None, q="a")
    )


def test_a_search_compares_few_entries(monkeypatch):
    """Chunks in which nothing matches are skipped, and a full page ends the search."""
    compared = []

    class Watched(str):
        __slots__ = ()

        def __contains__(self, text):
            compared.append(str(self))
            return str.__contains__(self, text)

    listed = entries(*(f"m{number:02}" for number in range(30)))
    list(listed.matching(0, 30, owned_by="x", q=None))
    list(listed.matching(0, 30, owned_by=None, q="x"))
    for model in listed:
        object.__setattr__(model, "search_text", Watched(model.search_text))

    assert [] == list(listed.matching(0, 30, owned_by=None, q="zz"))
    assert [] == compared
    assert ["m07"] == ids(listed.matching(0, 30, owned_by=None, q="m07"))
    assert ["m06", "m07", "m08"] == compared
    compared.clear()
    assert "m00" == next(listed.matching(0, 30, owned_by=None, q="m")).id
    assert ["m00"] == compared


def test_a_search_by_rule_compares_few_entries():
    """Chunks without an entry of any of the rules are skipped."""
    compared = []

    class Watched(frozenset):
        def __contains__(self, rule):
            compared.append(rule)
            return frozenset.__contains__(self, rule)

    listed = entries(*(f"m{number:02}" for number in range(30)))
    listed = listed.changed({"m07": entry("m07", organization="acme")})
    [public, own] = [listed[0].rule, listed[7].rule]

    assert ["m07"] == ids(listed.matching(0, 30, rules=Watched({own})))
    assert [public, own, public] == compared


def test_a_list_without_entries():
    """Nothing is found in it, and it grows."""
    empty = OrderedModels()

    assert None is empty.get("a")
    assert [] == list(empty.matching(0, 0, owned_by=None, q="a"))
    assert ["a"] == ids(empty.changed({"a": entry("a"), "b": None}))
