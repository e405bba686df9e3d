"""Who sees an entry: each clause of the contract's rule, and the whole rule against a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.model import Model, Permission
from app.catalog.visibility import ANONYMOUS, Viewer, is_permitted, is_visible

NOW = 1_800_000_000
ACME = Viewer("acme")
ACME_RED = Viewer("acme", frozenset({"red"}))
GLOBEX_RED = Viewer("globex", frozenset({"red"}))


def permission(**fields):
    return Permission(**{"id": "modelperm-x", "created": 0, **fields})


def entry(*permissions, **fields):
    return Model(id="x", created=0, owned_by="custom", root="x", permission=permissions, **fields)


@pytest.mark.parametrize("viewer", [ANONYMOUS, ACME, ACME_RED, GLOBEX_RED])
def test_the_reference_permission_shows_to_everyone(viewer):
    """The permission of the reference reply lets everyone see the entry."""
    shown = is_permitted(entry(permission()).rule, viewer)

    assert True is shown


@pytest.mark.parametrize("viewer", [ANONYMOUS, ACME, ACME_RED, GLOBEX_RED])
def test_an_empty_list_hides(viewer):
    """An entry without any permission is hidden from everyone."""
    shown = is_permitted(entry().rule, viewer)

    assert False is shown


@pytest.mark.parametrize(
    ("viewer", "expected"),
    [(ANONYMOUS, False), (ACME, True), (ACME_RED, True), (GLOBEX_RED, False)],
)
def test_an_organization_is_matched(viewer, expected):
    """A permission for an organization lets its members see the entry, and nobody else."""
    shown = is_permitted(entry(permission(organization="acme")).rule, viewer)

    assert expected is shown


@pytest.mark.parametrize(
    ("viewer", "expected"),
    [
        (ANONYMOUS, False),
        (ACME, False),
        (ACME_RED, True),
        (GLOBEX_RED, True),
        (Viewer(None, frozenset({"red"})), True),
        (Viewer("acme", frozenset({"blue", "green"})), False),
    ],
)
def test_a_group_is_matched(viewer, expected):
    """A permission for a group lets those see the entry who have it among their groups."""
    shown = is_permitted(entry(permission(group="red")).rule, viewer)

    assert expected is shown


@pytest.mark.parametrize(
    ("viewer", "expected"),
    [
        (ANONYMOUS, False),
        (ACME, False),
        (GLOBEX_RED, False),
        (Viewer("acme", frozenset({"blue"})), False),
        (ACME_RED, True),
        (Viewer("acme", frozenset({"red", "blue"})), True),
    ],
)
def test_organization_and_group_match_together(viewer, expected):
    """A permission for a group of an organization needs both."""
    shown = is_permitted(entry(permission(organization="acme", group="red")).rule, viewer)

    assert expected is shown


def test_a_group_is_no_organization():
    """A name that is the viewer's organization does not match as a group, nor the other way."""
    as_group = is_permitted(entry(permission(group="acme")).rule, ACME_RED)
    as_organization = is_permitted(entry(permission(organization="red")).rule, ACME_RED)

    assert (False, False) == (as_group, as_organization)


def test_case_and_spaces_count():
    """Names of organizations and groups are compared as they are."""
    shown = [
        is_permitted(entry(permission(organization=name)).rule, ACME)
        for name in ("Acme", "acme ", "")
    ]

    assert [False, False, False] == shown
    assert False is is_permitted(entry(permission(group="Red")).rule, ACME_RED)
    assert False is is_permitted(entry(permission(group="")).rule, ACME_RED)


def test_a_permission_must_allow_viewing():
    """A permission that matches but does not allow viewing shows nothing."""
    shown = is_permitted(entry(permission(allow_view=False)).rule, ACME)

    assert False is shown


def test_one_of_several_permissions_is_enough():
    """One matching permission that allows viewing outweighs others that do not."""
    shown = is_permitted(
        entry(
            permission(allow_view=False),
            permission(organization="globex"),
            permission(organization="acme"),
        ).rule,
        ACME,
    )

    assert True is shown


@pytest.mark.parametrize("allow_view", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_matching_block_hides(allow_view, first):
    """A matching permission that blocks hides the entry, whatever its allow_view and its index."""
    block = permission(organization="acme", is_blocking=True, allow_view=allow_view)
    order = (block, permission()) if first else (permission(), block)
    shown = [is_permitted(entry(*order).rule, viewer) for viewer in (ACME, GLOBEX_RED, ANONYMOUS)]

    assert [False, True, True] == shown


def test_a_block_for_a_group_spares_the_others():
    """A block that names a group leaves the rest of the organization alone."""
    blocked = entry(permission(), permission(organization="acme", group="red", is_blocking=True))
    shown = [is_permitted(blocked.rule, viewer) for viewer in (ACME, ACME_RED, GLOBEX_RED)]

    assert [True, False, True] == shown


def test_a_block_alone_shows_nothing_to_others():
    """A block that does not match does not show the entry either."""
    shown = is_permitted(entry(permission(organization="acme", is_blocking=True)).rule, GLOBEX_RED)

    assert False is shown


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"available_from": NOW}, True),
        ({"available_from": NOW + 1}, False),
        ({"shutdown_date": "2027-01-15"}, False),  # the day of NOW
        ({"shutdown_date": "2027-01-16"}, True),
    ],
)
def test_an_entry_must_be_live_too(fields, expected):
    """A permitted entry is visible only while it is live."""
    shown = is_visible(entry(permission(), **fields), ACME, NOW)

    assert expected is shown


def test_dates_do_not_permit():
    """A live entry is visible only to whom its permissions let see it."""
    shown = is_visible(entry(permission(organization="globex")), ACME, NOW)

    assert False is shown


ORGANIZATIONS = ("acme", "globex")
GROUPS = ("red", "blue")
permissions = st.builds(
    permission,
    organization=st.sampled_from(("*", *ORGANIZATIONS)),
    group=st.sampled_from((None, *GROUPS)),
    allow_view=st.booleans(),
    is_blocking=st.integers(0, 4).map(lambda number: number == 0),
)
viewers = st.builds(
    Viewer,
    st.sampled_from((None, *ORGANIZATIONS)),
    st.frozensets(st.sampled_from(GROUPS)),
)


def plain_rule(permissions, organization, groups):
    """Tell whether a viewer sees an entry, in the words of the contract and one by one."""
    verdict = False
    for one in permissions:
        if one.organization not in {"*", organization}:
            continue
        if one.group is not None and one.group not in groups:
            continue
        if one.is_blocking:
            return False
        if one.allow_view:
            verdict = True
    return verdict


@given(st.lists(permissions, max_size=4), viewers)
def test_the_rule_is_that_of_a_plain_model(permissions, viewer):
    """For any permissions and viewer the answer is that of the rule written out plainly."""
    expected = plain_rule(permissions, viewer.organization, viewer.groups)

    assert expected is is_permitted(entry(*permissions).rule, viewer)


@given(st.lists(permissions, max_size=4), viewers, st.randoms(use_true_random=False))
def test_the_order_of_permissions_is_of_no_matter(permissions, viewer, random):
    """The same permissions in another order show the entry to the same viewers."""
    shuffled = list(permissions)
    random.shuffle(shuffled)

    assert is_permitted(entry(*permissions).rule, viewer) is is_permitted(
        entry(*shuffled).rule, viewer
    )
