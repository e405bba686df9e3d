"""The rules about several entries: which of many changes may be made together."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.model import Model
from app.catalog.plan import Plan, settle
from app.catalog.ports import Change, StoredCatalog
from app.catalog.snapshot import Snapshot

NOW = 1_800_000_000


def model(model_id, **fields):
    return Model.compose({"id": model_id, **fields}, now=NOW)


def settled(stored, changes, *, strict=False):
    """Return the plan of `changes`, pairs of an id and the entry after it, to `stored` entries."""
    by_id = {entry.id: entry for entry in stored}
    snapshot = Snapshot.of(StoredCatalog(1, stored, []), NOW)
    plan = Plan(position=snapshot.position)
    settle(plan, [Change(by_id.get(i), after) for i, after in changes], snapshot, strict=strict)
    return plan


def names(plan):
    """Return by id the aliases that entries have after `plan`, None if it is removed."""
    return {
        change.id: None if change.after is None else change.after.aliases or []
        for change in plan.changes
    }


def test_a_new_id_that_is_an_alias_is_refused():
    """An entry keeps its alias, and the row with that id is refused."""
    plan = settled([model("a", aliases=["x"])], [("x", model("x")), ("y", model("y"))])

    assert {"y": []} == names(plan)
    assert [("x", "id", "The model 'x' is an alias of 'a' already.")] == [
        (r.id, r.field, r.message) for r in plan.refused
    ]


def test_an_alias_that_is_taken_is_left_out():
    """A new alias gives way to an id, to a stored alias and to an earlier new one."""
    stored = [model("a", aliases=["x"])]
    rows = [("b", model("b", aliases=["x", "a", "c", "n"])), ("c", model("c", aliases=["n"]))]
    plan = settled(stored, rows)

    assert {"b": ["n"], "c": []} == names(plan)
    assert [("b", "x"), ("b", "a"), ("b", "c"), ("c", "n")] == [
        (r.id, r.message.split("'")[1]) for r in plan.degraded
    ]


def test_names_that_become_free_are_taken():
    """A name of an entry that loses it, or goes, is free, in whatever order they come."""
    a, b, c = model("a", aliases=["x"]), model("b", aliases=["y"]), model("c")
    rows = [
        ("a", model("a", aliases=["y"])),
        ("b", model("b", aliases=["x", "c"])),
        ("c", None),
    ]
    for changes in (rows, rows[::-1]):
        plan = settled([a, b, c], changes)

        assert {"a": ["y"], "b": ["x", "c"], "c": None} == names(plan)
        assert [] == plan.degraded + plan.refused


def test_a_stored_alias_goes_before_a_new_id():
    """Among changed entries, too, one that has a name goes before one that would get it."""
    a = model("a", aliases=["x"])
    plan = settled([a], [("x", model("x")), ("a", model("a", aliases=["x"], name="A"))])

    assert {"a": ["x"]} == names(plan)
    assert ["x"] == [r.id for r in plan.refused]


def test_a_circle_of_replacements_is_left_out():
    """Entries that replace each other lose that field; one that leads elsewhere keeps it."""
    replaced = {"deprecation_replacement_model": "b"}
    rows = [
        ("a", model("a", **replaced)),
        ("b", model("b", deprecation_replacement_model="a")),
        ("c", model("c", deprecation_replacement_model="z")),
    ]
    plan = settled([], rows)

    assert {"a": None, "b": None, "c": "z"} == {
        c.id: c.after.deprecation_replacement_model for c in plan.changes
    }
    assert ["a", "b"] == [r.id for r in plan.degraded]
    assert 1 == len(plan.warnings)


def test_prices_for_a_million_tokens_are_a_warning():
    """A new price that no token has is named once for all entries; a stored one is not again."""
    stored = [model("a", pricing={"prompt": "3"})]
    rows = [
        ("a", model("a", name="A", pricing={"prompt": "3"})),
        ("b", model("b", pricing={"prompt": "0.0099", "image": "5", "audio": "on request"})),
        ("c", model("c", pricing={"prompt": "0", "completion": "10"})),
        ("d", model("d", pricing={"prompt": "0.01"})),
        ("e", None),
    ]
    plan = settled([*stored, model("e")], rows)

    [warning] = plan.warnings

    assert warning.startswith("'c' and 1 more: pricing.completion is 10 USD for one token. Is")
    assert ["a", "b", "c", "d", "e"] == [change.id for change in plan.changes]


def test_what_is_replaced_by_nothing_is_a_warning():
    """An entry that goes, or loses a name, may be the replacement of others."""
    stored = [
        model("a", deprecation_replacement_model="b"),
        model("c", deprecation_replacement_model="b"),
        model("b"),
    ]
    plan = settled(stored, [("b", None), ("c", None)])

    assert ["'b' goes, which is the replacement of 'a'."] == plan.warnings


def test_a_strict_plan_refuses_instead():
    """An edit of many entries makes a change as it was asked for, or not at all."""
    rows = [
        ("b", model("b", aliases=["a"])),
        ("c", model("c", deprecation_replacement_model="c")),
        ("d", model("d")),
    ]
    plan = settled([model("a")], rows, strict=True)

    assert {"d": []} == names(plan)
    assert [("b", "aliases"), ("c", "deprecation_replacement_model")] == [
        (r.id, r.field) for r in plan.refused
    ]


def test_a_change_of_which_nothing_is_left_is_none():
    """A row whose one new alias is taken leaves the entry as it is."""
    stored = [model("a"), model("b")]
    plan = settled(stored, [("b", model("b", aliases=["a"]).updated({"permission": [{}]}))])
    plan2 = settled(stored, [("b", stored[1].updated({"aliases": ["a"]}))])

    assert (1, [], 1) == (len(plan.changes), plan2.changes, plan2.unchanged)


NAMES = "abcdef"
some_models = st.dictionaries(
    st.sampled_from(NAMES),
    st.none()
    | st.tuples(
        st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        st.none() | st.sampled_from(NAMES),
    ),
    max_size=5,
).map(
    lambda given: {
        i: value
        and model(
            i, aliases=[n for n in value[0] if n != i], deprecation_replacement_model=value[1]
        )
        for i, value in given.items()
    }
)


def after(stored, plan):
    """Return by id the entries after `plan`."""
    by_id = {entry.id: entry for entry in stored} | {c.id: c.after for c in plan.changes}
    return {model_id: entry for model_id, entry in by_id.items() if entry is not None}


def keeps_the_rules(entries):
    """Return whether each name has one entry, and no replacements lead into a circle."""
    names = [name for entry in entries for name in entry.ids]
    by_name = {name: entry for entry in entries for name in entry.ids}
    for entry in entries:
        last = entry
        for _ in entries:
            last = last and by_name.get(last.deprecation_replacement_model)
        if last is not None:
            return False
    return len({*names}) == len(names)


@settings(max_examples=150, deadline=None)
@given(some_models, some_models)
def test_random_changes_keep_the_rules(first, second):
    """Whatever many changes ask for, what is made of them keeps the rules, from nothing and on."""
    stored = []
    for changes in (first, second):
        present = {entry.id for entry in stored}
        asked = [(i, m) for i, m in changes.items() if m is not None or i in present]
        plan = settled(stored, asked)
        stored = [*after(stored, plan).values()]

        assert keeps_the_rules(stored)
        assert {i for i, _ in asked} >= {change.id for change in plan.changes}
