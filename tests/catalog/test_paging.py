"""Which part of a list is asked for: limits, cursors and filters, over one list or several."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.ordered import OrderedModels
from app.catalog.paging import EVERYTHING, Page, Window, bounds, cut, find_span
from tests.catalog.samples import catalogs, entries, entry, ids, model_ids, snapshot


def test_everything_is_everything():
    """Without a window the page is the whole list and nothing is behind it."""
    models = entries("a", "b", "c")
    page = cut([models], EVERYTHING)

    assert ["a", "b", "c"] == ids(page.models)
    assert (False, "a", "c") == (page.has_more, page.first_id, page.last_id)


def test_an_empty_page_has_no_ends():
    """A page without entries has neither first nor last id, and nothing behind it."""
    page = cut([entries("a")], Window(limit=1, after="a"))

    assert (Page([], has_more=False), None, None) == (page, page.first_id, page.last_id)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, (["a"], True)), (3, (["a", "b", "c"], False)), (4, None)]
)
def test_a_page_has_at_most_its_limit(limit, expected):
    """A page has at most limit entries and says whether there are more."""
    page = cut([entries("a", "b", "c")], Window(limit=limit))

    assert (expected or (["a", "b", "c"], False)) == (ids(page.models), page.has_more)


def test_a_cursor_alone_gives_the_rest():
    """With a cursor and no limit the page is everything behind the cursor."""
    page = cut([entries("a", "b", "c")], Window(after="a"))

    assert (["b", "c"], False) == (ids(page.models), page.has_more)


@pytest.mark.parametrize(
    ("after", "expected"), [("", "abd"), ("a", "bd"), ("c", "d"), ("b~", "d"), ("e", "")]
)
def test_a_cursor_need_not_be_the_id_of_an_entry(after, expected):
    """After the id of a removed entry come the entries of greater id."""
    page = cut([entries("a", "b", "d")], Window(limit=9, after=after))

    assert list(expected) == ids(page.models)


@given(catalogs, st.none() | st.integers(1, 5), st.none() | model_ids, model_ids)
def test_before_is_the_part_just_before(models, limit, after, before):
    """A window before an id ends there, and has more when entries before it are left out."""
    listed = snapshot(models).models
    within = [i for i in ids(listed) if (after is None or i > after) and i < before]
    page = cut([listed], Window(limit=limit, after=after, before=before))

    assert within[-limit if limit else 0 :] == ids(page.models)
    assert (len(within) > len(page.models)) == page.has_more


def test_an_owner_is_exact():
    """The filter owned_by takes the whole name, in its case."""
    models = OrderedModels([entry("a", owned_by="meta"), entry("b", owned_by="Meta"), entry("c")])

    assert ["a"] == ids(cut([models], Window(owned_by="meta")).models)
    assert [] == ids(cut([models], Window(owned_by="met")).models)


def test_q_looks_into_id_name_and_aliases_in_any_case():
    """The filter q is a substring of id, name or an alias; case is of no matter."""
    models = OrderedModels(
        [
            entry("GPT-4"),
            entry("b", name="My gpt"),
            entry("c", name="other"),
            entry("d", aliases=["x", "a-GPT"]),
            entry("e"),
        ]
    )

    assert ["GPT-4", "b", "d"] == ids(cut([models], Window(q="gPt")).models)
    assert ["GPT-4"] == ids(cut([models], Window(q="-4")).models)


def test_an_empty_filter_differs_from_none():
    """An empty q matches everything, an empty owned_by nothing."""
    models = entries("a", "b")

    assert ["a", "b"] == ids(cut([models], Window(q="")).models)
    assert [] == ids(cut([models], Window(owned_by="")).models)


@given(
    catalogs,
    st.integers(1, 5),
    st.none() | st.sampled_from(["custom", "openai", "nobody"]),
    st.none() | st.text("aAbB-ß", max_size=2),
)
def test_a_walk_meets_every_entry_once(models, limit, owned_by, q):
    """Page after page gives each matching entry once, in order, in pages as full as can be."""
    listed = snapshot(models).models
    expected = [
        model.id
        for model in listed
        if owned_by in (None, model.owned_by)
        and (
            q is None
            or q.casefold() in model.id.casefold()
            or q.casefold() in (model.name or "").casefold()
        )
    ]
    walked = []
    after = None
    while True:
        page = cut([listed], Window(limit=limit, after=after, owned_by=owned_by, q=q))
        walked.append(ids(page.models))
        if not page.has_more:
            break
        after = page.last_id

    assert expected == [model_id for page in walked for model_id in page]
    assert all(len(page) == limit for page in walked[:-1])
    assert walked[-1] or not expected


@given(catalogs, st.integers(1, 5), st.data())
def test_a_walk_survives_removals(models, limit, data):
    """While entries vanish, the cursor's too, a walk meets each of the others once."""
    listed = snapshot(models).models
    walked = []
    removed = set()
    page = cut([listed], Window(limit=limit))
    while page.has_more:
        walked += ids(page.models)
        gone = data.draw(st.sets(st.sampled_from(ids(listed)), max_size=3)) | {page.last_id}
        removed |= gone - set(walked)
        listed = OrderedModels(model for model in listed if model.id not in gone)
        page = cut([listed], Window(limit=limit, after=page.last_id))
    walked += ids(page.models)

    assert [i for i in ids(snapshot(models).models) if i not in removed] == walked


@given(catalogs, model_ids)
def test_after_a_cursor_are_the_greater_ids(models, after):
    """Behind any cursor, an entry's id or not, are exactly the entries of greater id."""
    listed = snapshot(models).models

    assert [i for i in ids(listed) if i > after] == ids(cut([listed], Window(after=after)).models)


def split_up(models, parts):
    """Return four lists that have the models of one between them."""
    own = list(zip(models, parts, strict=False))
    return [OrderedModels(model for model, part in own if part == n) for n in range(4)]


windows = st.builds(
    Window,
    limit=st.none() | st.integers(1, 5),
    after=st.none() | model_ids,
    before=st.none() | model_ids,
    owned_by=st.none() | st.sampled_from(["custom", "openai"]),
    q=st.none() | st.text("aAbB-ß", max_size=2),
)


@given(catalogs, st.lists(st.integers(0, 3), min_size=12, max_size=12), windows)
def test_several_lists_are_as_good_as_one(models, parts, window):
    """However a list is split up, the page is the same."""
    whole = snapshot(models).models
    split = split_up(whole, parts)

    assert cut([whole], window) == cut(split, window)
    assert cut([], window) == Page([], has_more=False)


@given(catalogs, st.lists(st.integers(0, 3), min_size=12, max_size=12), windows)
def test_a_span_identifies_a_page(models, parts, window):
    """The span of a page is found without the page, and one span is one page."""
    window = window._replace(owned_by=None, q=None)
    whole = snapshot(models).models
    split = split_up(whole, parts)
    start, stop, has_more = span(split, window)
    page = cut(split, window)

    assert whole[start:stop] == page.models
    assert has_more == page.has_more


def span(lists, window):
    return find_span(*bounds(lists, window), window)


def test_cursors_that_lead_to_one_page_have_one_span():
    """However many cursors are made up, there are few spans."""
    lists = [entries("a", "m"), entries("b")]
    cursors = ["!1", "!2", "0"], ["a0", "a1"], ["z1", "z2", "m"]
    spans = [{span(lists, Window(limit=1, after=cursor)) for cursor in same} for same in cursors]

    assert [
        {(0, 1, True)},
        {(1, 2, True)},
        {(0, 0, False)},
    ] == spans


@pytest.mark.parametrize("q", ["\n", "a\nb", "\0"])
def test_a_control_character_is_found_nowhere(q):
    """No id and no name has one; the line break between the two is not found either."""
    assert [] == cut([OrderedModels([entry("a", name="b")])], Window(q=q)).models


@pytest.mark.parametrize("cursor", [{}, {"before": "m9"}, {"after": "m"}])
def test_a_short_page_of_long_lists_copies_none(cursor):
    """Of each list as many entries are taken as the page may have, and one more."""
    lists = [entries(*(f"m{n:05}" for n in range(part, 20_000, 2))) for part in (0, 1)]
    tracemalloc.start()
    page = cut(lists, Window(limit=1, **cursor))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (1, True) == (len(page.models), page.has_more)
    assert peak < 5_000
