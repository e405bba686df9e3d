"""Which entries an administrator's filter selects."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import InvalidValue
from app.catalog.filters import Filter, read_viewer
from app.catalog.lifecycle import stage_of
from app.catalog.model import Permission
from app.catalog.paging import Window, cut
from app.catalog.visibility import Viewer, is_visible
from tests.catalog.samples import (
    DAY,
    MIDNIGHT,
    dated_entries,
    entry,
    ids,
    instants,
    model_ids,
    snapshot,
)

MODELS = snapshot(
    [
        entry(
            "all",
            type="language",
            tags=["fast", "new"],
            context_length=8192,
            architecture={"input_modalities": ["text", "image"]},
            supported_parameters=["tools", "seed"],
            shutdown_date="2027-01-31",
        ),
        entry("blind", architecture={"input_modalities": ["text"]}, supported_parameters=[]),
        entry("deprecated", deprecation="2027-01-14T00:00:00Z", type="embedding"),
        entry("hidden", permission=()),
        entry("later", available_from=MIDNIGHT + DAY, context_length=4096),
        entry("none", source="litellm"),
        entry("private", organization="acme", context_length=8191),
        entry("retired", shutdown_date="2027-01-15"),
    ]
).models


def found(**query):
    accepts = partial(Filter.read(query).matches, now=MIDNIGHT)
    return " ".join(ids(cut([MODELS], Window(), accepts=accepts).models))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "all blind deprecated hidden later none private retired"),
        ({"type": "language"}, "all"),
        ({"type": "Language"}, ""),
        ({"type": ""}, ""),
        ({"supports": "vision"}, "all"),
        ({"supports": "tools"}, "all"),
        ({"supports": "seed"}, "all"),
        ({"supports": "seed,vision"}, "all"),
        ({"supports": "seed,audio_input"}, ""),
        ({"supports": "unknown"}, ""),
        ({"min_context": "8192"}, "all"),
        ({"min_context": "8191"}, "all private"),
        ({"min_context": "9" * 100}, ""),
        ({"tag": "new"}, "all"),
        ({"tag": "ne"}, ""),
        ({"source": "litellm"}, "none"),
        ({"source": "lite"}, ""),
        ({"lifecycle": "upcoming"}, "later"),
        ({"lifecycle": "active"}, "all blind hidden none private"),
        ({"lifecycle": "deprecated"}, "deprecated"),
        ({"lifecycle": "retired"}, "retired"),
        ({"lifecycle": "dead"}, ""),
        ({"visible_to": "acme"}, "all blind deprecated none private"),
        ({"visible_to": "acme/x"}, "all blind deprecated none private"),
        ({"visible_to": "other"}, "all blind deprecated none"),
        ({"hidden": "true"}, "hidden later retired"),
        ({"hidden": "false"}, "all blind deprecated none private"),
        ({"retiring_before": "2027-01-31"}, ""),
        ({"retiring_before": "2027-01-31T00:00:00.1Z"}, "all"),
        ({"retiring_before": "2027-01-31t01:00:00+01:00"}, ""),
        ({"retiring_before": "2027-02-01"}, "all"),
        ({"supports": "tools", "tag": "new", "type": "embedding"}, ""),
        ({"min_context": "1", "hidden": "false", "visible_to": "other"}, "all"),
    ],
)
def test_each_condition_holds(query, expected):
    """A filter selects the entries for which all of its conditions hold."""
    assert expected == found(**query)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("min_context", ["", "x", "-1", "1.5", "1e3", " 1", "٣"]),
        ("hidden", ["", "1", "yes", "True"]),
        ("retiring_before", ["", "soon", "2027", "20270131", "2027-02-30", "2027-01-31T10:00:00"]),
    ],
)
def test_what_is_no_value_is_refused(name, values):
    """A number, a boolean or a date that is none is an error that names its parameter."""
    for value in values:
        with pytest.raises(InvalidValue, match=name) as caught:
            Filter.read({name: value})

        assert name == caught.value.param


def test_a_viewer_is_an_organization_and_perhaps_a_group():
    """The first slash separates them."""
    assert Viewer("acme") == read_viewer("acme") == read_viewer("acme/")
    assert Viewer("acme", frozenset({"a/b"})) == read_viewer("acme/a/b")
    assert Viewer("acme", frozenset({"a", "b"})) == read_viewer("acme/a,b,")
    assert Viewer() == read_viewer("")


NAMES = ("acme", "other")
GROUPS = ("a", "b")
permissions = st.builds(
    Permission,
    id=st.just("x"),
    created=st.just(0),
    organization=st.sampled_from(("*", *NAMES)),
    group=st.none() | st.sampled_from(GROUPS),
    allow_view=st.booleans(),
    is_blocking=st.booleans(),
)
VIEWERS = [
    Viewer(organization, frozenset(groups))
    for organization in (None, *NAMES, "third")
    for groups in ((), "a", "b", "ab")
]


@given(st.lists(permissions, max_size=4))
def test_hidden_is_what_no_viewer_sees(given_permissions):
    """Of all organizations and groups, those without a permission too, none sees it."""
    model = entry("x", permission=tuple(given_permissions))
    sees = [viewer for viewer in VIEWERS if is_visible(model, viewer, MIDNIGHT)]

    assert Filter(hidden=not sees).matches(model, MIDNIGHT)
    assert not Filter(hidden=bool(sees)).matches(model, MIDNIGHT)


limits = st.integers(1, 3)


@given(
    st.lists(dated_entries, max_size=8, unique_by=lambda model: model.id),
    instants,
    st.sampled_from([Filter(), Filter(lifecycle="active"), Filter(hidden=False)]),
    st.one_of(
        limits.map(Window),
        st.tuples(limits, model_ids).map(lambda given: Window(given[0], after=given[1])),
        st.tuples(limits, model_ids).map(lambda given: Window(given[0], before=given[1])),
    ),
)
def test_a_page_is_a_part_of_what_matches(models, now, condition, window):
    """With a filter a page has its limit, and more only if more entries match."""
    listed = snapshot(models, now=now).models
    page = cut([listed], window, accepts=partial(condition.matches, now=now))
    matching = [
        model.id
        for model in listed
        if condition.matches(model, now)
        and (window.after is None or model.id > window.after)
        and (window.before is None or model.id < window.before)
    ]
    part = slice(window.limit) if window.before is None else slice(-window.limit, None)

    assert matching[part] == ids(page.models)
    assert (len(matching) > window.limit) == page.has_more


@given(dated_entries, instants)
def test_an_entry_has_one_stage(model, now):
    """It is upcoming before it is active or deprecated, and retired after that."""
    stages = ("upcoming", "active", "deprecated", "retired")
    later = stage_of(model, now + 10 * DAY)

    assert stage_of(model, now) in stages
    assert stages.index(stage_of(model, now)) <= stages.index(later)
