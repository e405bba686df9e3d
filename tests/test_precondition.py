"""Preconditions: which state of an entry lets a change through."""

import pytest

from app.administration.entries import ANY, UNCONDITIONAL, Precondition
from app.catalog.errors import RevisionMismatch
from app.catalog.model import Model

CURRENT = Model(id="x", created=0, owned_by="x", permission=(), root="x", revision=7)
ABSENT = None


@pytest.mark.parametrize(
    ("precondition", "current"),
    [
        (UNCONDITIONAL, CURRENT),
        (UNCONDITIONAL, ABSENT),
        (Precondition(if_match=frozenset({"7"})), CURRENT),
        (Precondition(if_match=frozenset({"6", "7"})), CURRENT),
        (Precondition(if_match=ANY), CURRENT),
        (Precondition(if_none_match=frozenset({"6"})), CURRENT),
        (Precondition(if_none_match=frozenset({"7"})), ABSENT),
        (Precondition(if_none_match=ANY), ABSENT),
        (Precondition(if_match=frozenset({"7"}), if_none_match=frozenset({"6"})), CURRENT),
    ],
)
def test_holds(precondition: Precondition, current: Model | None) -> None:
    """An entry in the state that is asked for may be changed."""
    assert precondition.check(current) is None


@pytest.mark.parametrize(
    ("precondition", "current"),
    [
        (Precondition(if_match=frozenset({"6"})), CURRENT),
        (Precondition(if_match=frozenset()), CURRENT),
        (Precondition(if_match=frozenset({"7"})), ABSENT),
        (Precondition(if_match=frozenset()), ABSENT),
        (Precondition(if_match=ANY), ABSENT),
        (Precondition(if_none_match=frozenset({"7"})), CURRENT),
        (Precondition(if_none_match=ANY), CURRENT),
        (Precondition(if_match=frozenset({"7"}), if_none_match=ANY), CURRENT),
        (Precondition(if_match=frozenset({"7"}), if_none_match=frozenset({"7"})), CURRENT),
    ],
)
def test_fails(precondition: Precondition, current: Model | None) -> None:
    """An entry in another state is not changed, and the refusal says in which state it is."""
    with pytest.raises(RevisionMismatch) as refusal:
        precondition.check(current)

    state = "does not exist."
    if current is not None:
        state = 'is at revision "7". Read it again; If-Match has these quotes, too.'
    assert f"The precondition does not hold: the model {state}" == str(refusal.value)
