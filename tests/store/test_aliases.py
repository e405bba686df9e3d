"""An id or alias names one entry: in every order of writes, and whoever writes at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest
from hypothesis import strategies as st

from app.administration import Administration
from app.administration.entries import Precondition
from app.catalog.errors import ModelExists, ModelNotFound, RevisionMismatch, ValidationFailed
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.store.store import Store
from tests.sql import before_statements, run_sql
from tests.writing import write

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NOW = 1_800_000_000
TEST = Actor("test")
STALE = Precondition(if_match=frozenset({"999"}))


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


@pytest.fixture
def administration(store, clock):
    return Administration(store, clock)


@pytest.fixture
def catalogue(administration):
    """The changes by short names, each by the same actor."""
    return Catalogue(administration)


class Catalogue:
    def __init__(self, administration):
        self._administration = administration

    def create(self, model_id, *aliases, **options):
        fields = {"id": model_id, "aliases": [*aliases]}
        return self._administration.create_model(fields, actor=TEST, **options).model

    def replace(self, model_id, *aliases, **options):
        fields = {"aliases": [*aliases]}
        return self._administration.replace_model(model_id, fields, actor=TEST, **options).model

    def merge(self, model_id, *aliases, **options):
        patch = {"aliases": [*aliases]}
        return self._administration.merge_model(model_id, patch, actor=TEST, **options).model

    def remove(self, model_id, **options):
        self._administration.remove_model(model_id, actor=TEST, **options)


def rows(settings):
    """Return the rows of the table, by alias."""
    return dict(tuple(row) for row in run_sql(settings, "SELECT alias, model_id FROM aliases"))


def documented(store):
    """Return what the table must have: by alias the id of its entry, as the documents say it."""
    pairs = [(alias, model.id) for model in store.load().models for alias in model.aliases or ()]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def refusal(call, *arguments, **options):
    with pytest.raises(ModelExists) as refused:
        call(*arguments, **options)
    return str(refused.value), refused.value.param


ALIAS_OF_X = "The model 'taken' is an alias of 'x' already."


def test_a_name_is_given_once(catalogue, store):
    """A new entry is refused if its id or one of its aliases is an id or alias of another."""
    catalogue.create("x", "taken", "too")

    assert ("The model 'x' exists already.", "id") == refusal(catalogue.create, "x", "free")
    assert ("The model 'taken' is an alias of 'x' already.", "id") == refusal(
        catalogue.create, "taken"
    )
    assert ("The model 'x' exists already.", "aliases") == refusal(
        catalogue.create, "y", "free", "x", "taken"
    )
    assert (ALIAS_OF_X, "aliases") == refusal(catalogue.create, "y", "free", "taken", "x")
    assert {"taken": "x", "too": "x"} == documented(store)


def test_a_replacement_is_given_no_name_of_another(catalogue, store, settings):
    """PUT of an alias is refused, and so is an added alias that another entry has."""
    catalogue.create("x", "taken")
    catalogue.create("y", "own")

    assert ("The model 'taken' is an alias of 'x' already.", "id") == refusal(
        catalogue.replace, "taken"
    )
    assert (ALIAS_OF_X, "aliases") == refusal(catalogue.replace, "y", "own", "taken")
    assert (ALIAS_OF_X, "aliases") == refusal(catalogue.replace, "new", "taken")
    assert ("The model 'y' exists already.", "aliases") == refusal(catalogue.replace, "x", "y")
    catalogue.replace("y", "other", "own")
    assert {"taken": "x", "own": "y", "other": "y"} == documented(store) == rows(settings)


def test_a_patch_is_given_no_name_of_another(catalogue, store, settings):
    """PATCH that adds a taken alias is refused; it may add, remove and reorder its own."""
    catalogue.create("x", "taken")
    catalogue.create("y", "own", "old")

    assert (ALIAS_OF_X, "aliases") == refusal(catalogue.merge, "y", "own", "taken")
    assert ("The model 'x' exists already.", "aliases") == refusal(catalogue.merge, "y", "x")
    assert ["new", "own"] == catalogue.merge("y", "new", "own").aliases
    assert {"taken": "x", "own": "y", "new": "y"} == documented(store) == rows(settings)


def test_a_name_that_was_given_up_is_free(catalogue, store, settings):
    """An alias that an entry gave up, and the names of a removed one, may be given again."""
    catalogue.create("x", "a", "b")
    catalogue.merge("x", "b")
    catalogue.create("a", "c")
    catalogue.remove("x")
    catalogue.merge("a", "x", "b")

    assert {"x": "a", "b": "a"} == documented(store) == rows(settings)


def test_an_alias_is_no_entry(catalogue):
    """PATCH and DELETE of an alias change nothing, and say whose it is."""
    catalogue.create("x", "also")

    for change in (catalogue.merge, catalogue.remove):
        with pytest.raises(ModelNotFound) as refused:
            change("also")
        assert "The model 'also' does not exist: it is an alias, use 'x' instead" == str(
            refused.value
        )
    with pytest.raises(ModelNotFound) as refused:
        catalogue.remove("nobody")
    assert "The model 'nobody' does not exist" == str(refused.value)


def test_the_checks_have_an_order(catalogue):
    """A wrong field comes before a taken name, and this before a precondition that fails."""
    catalogue.create("x", "taken")
    catalogue.create("y")

    for change in (catalogue.replace, catalogue.merge):
        with pytest.raises(ValidationFailed):
            change("y", "y", "taken", precondition=STALE)
        assert (ALIAS_OF_X, "aliases") == refusal(change, "y", "taken", precondition=STALE)
        with pytest.raises(RevisionMismatch):
            change("y", "free", precondition=STALE)
    assert (ALIAS_OF_X, "aliases") == refusal(catalogue.create, "z", "taken", precondition=STALE)
    with pytest.raises(ModelNotFound):
        catalogue.merge("taken", precondition=STALE)


def test_a_row_that_nothing_has_documented_is_no_name(catalogue, store, settings):
    """Rows that an older program left behind neither take a name nor hinder its new row."""
    catalogue.create("x")
    for row in ("('gone', 'nobody')", "('never', 'x')", "('y', 'x')"):
        run_sql(settings, f"INSERT INTO aliases VALUES {row}")  # noqa: S608
    catalogue.create("y", "gone")
    catalogue.merge("x", "never")

    assert {"gone": "y", "never": "x"} == documented(store)
    assert {"gone": "y", "never": "x", "y": "x"} == rows(settings)


def test_an_entry_beside_an_equal_alias_can_be_changed(catalogue, store, settings):
    """An older program may give an entry the alias of another as its id: both can be written."""
    catalogue.create("x", "both", "own")
    with store.transaction(actor=TEST, now=NOW) as transaction:
        write(transaction, Model.compose({"id": "both"}, now=NOW))
    catalogue.merge("both", "its")
    catalogue.replace("x", "both", "new")

    assert {"its": "both", "both": "x", "new": "x"} == documented(store) == rows(settings)
    assert ("The model 'both' exists already.", "id") == refusal(catalogue.create, "both")
    catalogue.remove("both")
    assert ("The model 'both' is an alias of 'x' already.", "id") == refusal(
        catalogue.create, "both"
    )


def test_an_entry_without_aliases_costs_nothing_more(administration):
    """Each change of one reads its names at once, and writes the row, revision and line."""
    words = []
    for change in (
        lambda: administration.create_model({"id": "x"}, actor=TEST),
        lambda: administration.replace_model("x", {"name": "a"}, actor=TEST),
        lambda: administration.replace_model("y", {}, actor=TEST),
        lambda: administration.merge_model("x", {"name": "b"}, actor=TEST),
        lambda: administration.remove_model("x", actor=TEST),
    ):
        words.clear()
        with before_statements(lambda text: words.append(text.split()[0])):
            change()

        # The revision, the names, the row and the line.
        assert 4 == len(words)
        assert ["UPDATE", "SELECT", "INSERT"] == [*words[:2], words[-1]]


NAMES = st.sampled_from("abcde")
CHANGES = st.tuples(
    st.sampled_from(["create", "replace", "merge", "remove"]),
    NAMES,
    st.lists(NAMES, unique=True, max_size=3),
)


def expected_error(model, change, model_id, aliases):
    """Return the error of a change by the rules: `model` has aliases by the id of their entry."""
    owners = {alias: owner for owner, owned in model.items() for alias in owned}
    if change in ("merge", "remove") and model_id not in model:
        return ModelNotFound
    if change != "remove" and model_id in aliases:
        return ValidationFailed
    if change == "create" and model_id in model:
        return ModelExists
    added = {model_id, *aliases} if change != "remove" else set()
    taken = (model.keys() | owners.keys()) - {model_id, *model.get(model_id, ())}
    if model_id not in model and model_id in owners:
        taken.add(model_id)
    return ModelExists if added & taken else None


@hypothesis.settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # it is emptied
)
@hypothesis.given(st.lists(CHANGES, max_size=10))
def test_any_sequence_of_changes_keeps_the_names_apart(store, settings, catalogue, changes):
    """Each change does what it does to a dictionary; the rows are what the documents say."""
    for entry in store.load().models:
        catalogue.remove(entry.id)
    model = {}
    for change, model_id, aliases in changes:
        arguments = () if change == "remove" else aliases
        error = expected_error(model, change, model_id, aliases)
        if error is not None:
            with pytest.raises(error):
                getattr(catalogue, change)(model_id, *arguments)
        elif change == "remove":
            catalogue.remove(model_id)
            del model[model_id]
        else:
            getattr(catalogue, change)(model_id, *arguments)
            model[model_id] = aliases

        assert model == {entry.id: [*(entry.aliases or ())] for entry in store.load().models}
        assert documented(store) == rows(settings)


def test_of_writers_that_want_one_name_one_gets_it(settings, clock):
    """Of four at once, each with a kind of change and connection of its own, three are refused."""
    stores = [Store(settings, clock) for _ in range(4)]
    stores[0].open(create=True)
    writers = [Catalogue(Administration(store, clock)) for store in stores]
    writers[0].create("patched")
    barrier = threading.Barrier(len(stores))

    def attempt(writer, change, *arguments):
        barrier.wait()
        try:
            getattr(writer, change)(*arguments)
        except ModelExists:
            return False
        return True

    with ThreadPoolExecutor(len(stores)) as threads:
        for number in range(20):
            name = f"n{number}"
            changes = [
                ("create", f"a{number}", name),
                ("replace", f"b{number}", name),
                ("merge", "patched", name),
                ("create", name),
            ]
            futures = [
                threads.submit(attempt, writer, *change)
                for writer, change in zip(writers, changes, strict=True)
            ]

            assert 1 == sum(future.result() for future in futures)
    assert documented(stores[0]) == rows(settings)
    for store in stores:
        store.close()
