"""The replacements of entries: each chain of them ends, and a name of no entry is allowed."""

import pytest

from app.administration import Administration
from app.catalog.errors import ValidationFailed
from app.catalog.ports import Actor
from app.catalog.snapshot import MAX_CHAIN
from app.store.store import Store
from tests.writing import write

pytestmark = pytest.mark.databases("sqlite", "postgresql")

TEST = Actor("test")
FIELD = "deprecation_replacement_model"


@pytest.fixture
def administration(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield Administration(store, clock)
    store.close()


@pytest.fixture
def put(administration):
    """What stores an entry with a replacement, and returns the warnings."""

    def replace(model_id, replacement, **fields):
        given = {**fields, **({FIELD: replacement} if replacement else {})}
        return administration.replace_model(model_id, given, actor=TEST).warnings

    return replace


@pytest.fixture
def refused(put):
    """What returns the sentence of a refusal."""

    def replace(*args, **kwargs):
        with pytest.raises(ValidationFailed) as refusal:
            put(*args, **kwargs)
        [(field, [sentence])] = refusal.value.errors.items()
        assert FIELD == field
        return sentence

    return replace


def test_a_replacement_that_is_no_entry_is_a_warning(put):
    """It is stored, since the entry may be added later; an entry or alias is no warning."""
    warning = f"{FIELD}: 'b' is no entry yet; no reader is referred to it."

    assert (warning,) == put("a", "b")
    assert () == put("a", "b")
    assert () == put("b", None, aliases=["c"])
    assert () == put("d", "b")
    assert () == put("e", "c")


def test_a_circle_is_refused(put, refused):
    """Whichever write would close it, through ids and aliases; the sentence has the way."""
    back = "Must not lead back to this entry: "

    assert f"{back}a." == refused("a", "a")
    assert f"{back}also-a." == refused("a", "also-a", aliases=["also-a"])
    put("a", "b")
    assert f"{back}a -> b." == refused("b", "a")
    put("b", None, aliases=["also-b"])
    put("c", "a")
    assert f"{back}c -> a -> b." == refused("b", "c")
    put("d", "also-b")
    assert f"{back}d -> also-b." == refused("b", "d", aliases=["also-b"])
    put("e", "later")
    put("b", "e", aliases=["also-b"])
    assert f"{back}a -> b -> e -> later." == refused("x", "a", aliases=["later"])
    assert () == put("x", None, aliases=["later"])


def test_an_alias_that_is_given_up_closes_no_circle(put):
    """A chain that ended in the old alias of an entry ends before it now."""
    put("a", None, aliases=["old"])
    put("b", "old")

    assert () == put("a", "b")


def test_what_an_older_program_has_left_does_not_stop_other_changes(administration, put, refused):
    """In a stored circle an entry is edited, and taken out of it; none is led into it."""
    put("a", None)
    put("b", "a")
    with administration.store.transaction(actor=TEST, now=0) as transaction:
        old = transaction.models_of(["a"])["a"]
        circle = type(old).compose({"id": "a", FIELD: "b"}, now=0)
        write(transaction, circle, old)

    assert () == administration.merge_model("a", {"name": "A"}, actor=TEST).warnings
    assert "Must not lead into a circle: a -> b -> a." == refused("c", "a")
    assert () == administration.merge_model("a", {FIELD: None}, actor=TEST).warnings
    assert () == put("c", "a")


def test_a_chain_has_a_longest_length(put, refused):
    """So a write reads no more than so many other entries, while other writers wait."""
    put("0", None)
    for number in range(MAX_CHAIN):
        put(f"{number + 1}", f"{number}")

    assert f"Must lead to an end in at most {MAX_CHAIN} steps" in refused("x", f"{MAX_CHAIN}")
