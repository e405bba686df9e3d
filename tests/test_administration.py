"""The rules of changes, on a store in memory: what is accepted, until when, and what is logged."""

import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.administration import Administration
from app.catalog.errors import InvalidKey
from app.catalog.ports import Actor


class Memory:
    """A `Writer` of keys that notes the lines of the log."""

    def __init__(self):
        self.keys = {}
        #: Action, the key before and the key after.
        self.lines = []

    @contextmanager
    def transaction(self, *, actor, now):
        yield self

    def key(self, kid):
        return self.keys.get(kid)

    def put_key(self, key, before, action):
        self.keys[key.kid] = key
        self.lines.append((action, before, key))


@given(
    now=st.floats(0, 4_000_000_000, allow_nan=False),
    grace=st.integers(0, 90 * 24 * 60 * 60),
)
def test_a_rotated_key_lives_for_its_grace(now, grace):
    """It is accepted until the grace is over and refused from the next second on; at once at 0."""
    store = Memory()
    administration = Administration(store, lambda: now)
    old, _ = administration.create_key({"name": "n"}, actor=Actor("test"))
    new, _ = administration.rotate_key(old.kid, {"grace": grace}, actor=Actor("test"))
    state = store.keys[old.kid].state

    if grace:
        assert "grace" == state(math.nextafter(now + grace, 0))
        assert "expired" == state(math.ceil(now) + grace)
    else:
        assert "expired" == state(now)
    assert "active" == store.keys[new.kid].state(now)


@given(
    fractions=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    longer=st.integers(0, 60),
)
def test_a_change_of_nothing_leaves_no_line(fractions, longer):
    """A second rotation that moves no end makes another successor, and no line of its own."""
    store, times = Memory(), [1000.0, 1000 + min(fractions), 1000 + max(fractions)]
    administration = Administration(store, lambda: times.pop(0))
    old, _ = administration.create_key({"name": "n"}, actor=Actor("test"))
    first, _ = administration.rotate_key(old.kid, {"grace": 60}, actor=Actor("test"))
    second, _ = administration.rotate_key(old.kid, {"grace": 61 + longer}, actor=Actor("test"))

    assert [
        ("key.create", old.kid),
        ("key.create", first.kid),
        ("key.rotate", old.kid),
        ("key.create", second.kid),
    ] == [(action, after.kid) for action, _, after in store.lines]
    assert [] == [line for line in store.lines if line[1] == line[2]]


@pytest.mark.parametrize("state", ["unknown", "revoked", "expired"])
def test_a_key_that_is_no_longer_active_changes_nothing(state):
    """Each change by a key finds first that the store has the key, and that it is active."""
    store = Memory()
    administration = Administration(store, lambda: 1000)
    key, _ = administration.create_key({"name": "n", "scopes": ["admin"]}, actor=Actor("test"))
    actor = Actor(f"key:{key.kid}", kid=key.kid)
    ends = {"revoked": {"revoked_at": 999}, "expired": {"expires_at": 1000}}
    store.keys = {} if state == "unknown" else {key.kid: replace(key, **ends[state])}
    before = list(store.lines)
    for change in (
        lambda: administration.create_model({"id": "x"}, actor=actor),
        lambda: administration.replace_model("x", {}, actor=actor),
        lambda: administration.merge_model("x", {}, actor=actor),
        lambda: administration.remove_model("x", actor=actor),
        lambda: administration.create_key({"name": "n"}, actor=actor),
        lambda: administration.create_key({"name": "n", "scopes": ["admin"]}, actor=actor),
        lambda: administration.revoke_key(key.kid, actor=actor),
        lambda: administration.rotate_key(key.kid, {}, actor=actor),
        lambda: administration.merge_key(key.kid, {"name": "x"}, actor=actor),
    ):
        with pytest.raises(InvalidKey) as refusal:
            change()

        assert (state, key.kid) == (refusal.value.reason, refusal.value.kid)
    assert before == store.lines
