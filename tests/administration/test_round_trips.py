"""Properties of imports of random files into random catalogues."""

import json
import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.administration.plans import report
from app.catalog.errors import InvalidValue, RowsRefused

IDS = ["a", "B", "b/c", "d:e", "f g", "0", "~", "a-1"]
SOURCES = ["openai", "roster", "other"]
few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
permissions = st.lists(
    st.fixed_dictionaries(
        {
            "organization": st.sampled_from(["*", "acme"]),
            "group": st.sampled_from([None, "red"]),
            "is_blocking": st.booleans(),
        },
        optional={"id": st.sampled_from(["modelperm-1", "modelperm-2"]), "created": st.just(7)},
    ),
    max_size=2,
)
some_fields = st.fixed_dictionaries(
    {},
    optional={
        "created": st.integers(0, 9),
        "owned_by": st.sampled_from(["acme", "me"]),
        "permission": permissions,
        "parent": st.sampled_from([None, "a"]),
        "name": st.sampled_from(["A", "é\u2028"[:1], '"\\']),
        "description": st.just(""),
        "aliases": st.lists(st.sampled_from([*IDS, "x", "y"]), max_size=3, unique=True),
        "list_aliases": st.booleans(),
        "tags": st.lists(st.sampled_from("st"), max_size=2),
        "context_length": st.integers(1, 4),
        "max_input_tokens": st.integers(1, 4),
        "architecture": st.sampled_from([{}, {"input_modalities": ["text"]}]),
        "supported_parameters": st.lists(st.sampled_from(["tools"]), max_size=1),
        "reasoning": st.sampled_from([{"mandatory": True}, {"supported_efforts": ["low"]}]),
        "pricing": st.sampled_from([{}, {"prompt": "0.0000010"}]),
        "metadata": st.sampled_from([{}, {"k": "v"}]),
        "shutdown_date": st.sampled_from(["2020-01-31", "2030-01-31"]),
        "deprecation_replacement_model": st.sampled_from([*IDS, "x", "nobody"]),
        "available_from": st.integers(0, 9),
        "create_time": st.sampled_from([1, 1.5]),
    },
)
wrong_fields = st.fixed_dictionaries(
    {}, optional={"max_output_tokens": st.just("8k"), "permission": st.just("acme")}
)
rows = st.lists(
    st.builds(
        lambda model_id, fields, wrong: {**fields, **wrong, "id": model_id},
        st.sampled_from([*IDS, "x"]) | st.sampled_from([7, "a?"]),
        some_fields,
        wrong_fields,
    ),
    max_size=6,
)
options = st.fixed_dictionaries(
    {},
    optional={
        "on_conflict": st.sampled_from(["fail", "skip", "update"]),
        "source": st.sampled_from(SOURCES),
        "hidden": st.booleans(),
        "prune": st.booleans(),
        "retire": st.just("2029-01-31"),
        "force": st.booleans(),
        "fields": st.sampled_from([{}, {"owned_by": "all"}, {"context_length": 2}]),
    },
)


def is_right(entry):
    """Return whether the lengths of a model agree."""
    lengths = entry.get("context_length"), entry.get("max_input_tokens")
    return None in lengths or lengths[0] >= lengths[1]


@st.composite
def catalogues(draw):
    """Return entries that keep the rules, as an older import and a person may have left them."""
    names = draw(st.permutations([*IDS, "x", "y"]))
    entries = []
    for fields in draw(st.lists(some_fields.filter(is_right), max_size=5)):
        count = draw(st.integers(0, 2))
        own, names = names[: 1 + count], names[1 + count :]
        if own:
            entry = {**fields, "id": own[0], "aliases": own[1:]}
            entry["source"] = draw(st.sampled_from([None, *SOURCES]))
            entry.pop("deprecation_replacement_model", None)
            if entries and draw(st.booleans()):
                entry["deprecation_replacement_model"] = entries[0]["id"]
            entries.append(entry)
    return entries


def followed(roster):
    """Return what the other workers of `roster` serve, and check that it is what is stored."""
    snapshot = roster.catalog.current()
    stored = {model.id: model for model in roster.store.load().models}

    assert stored == {model.id: model for model in snapshot.models}
    return stored


@pytest.mark.parametrize("ndjson", [False, True])
def test_an_export_comes_back_byte_by_byte(new_roster, ndjson):
    """From an empty store; the same file changes nothing there, nor anywhere else twice.

    In a store with other entries each is as in the file, and what the file lacks stays, but for
    entries of its own source with ``prune``.
    """
    roster, other = new_roster(), new_roster()

    @few
    @given(catalogues().filter(bool), catalogues())
    def each_file(entries, others):
        roster.put(entries)
        exported, stored = roster.export(ndjson=ndjson), followed(roster)
        other.put([])
        other.take(exported)

        assert exported == other.export(ndjson=ndjson)
        assert stored == followed(other)
        other.put(others)
        options = {"on_conflict": "update", "prune": True, "force": True, "partial": True}
        before, others = other.revision, other.entries()
        first = other.take(exported, **options)
        changes = len(first["added"]) + len(first["changed"]) + len(first["removed"])

        assert before + changes == other.revision
        if not first["refused"] + first["degraded"]:
            left = {i: m for i, m in others.items() if m.source != "roster"}

            assert left | stored == followed(other)
        again = other.take(exported, **options)

        assert ([], [], []) == (again["added"], again["changed"], again["removed"])
        assert before + changes == again["revision"] == other.revision

    each_file()


@pytest.mark.databases("postgresql")
def test_an_export_moves_between_databases(roster, new_roster):
    """From SQLite to PostgreSQL and back the bytes are the same."""
    sqlite = new_roster()

    @few
    @given(catalogues().filter(bool))
    def each_catalogue(entries):
        sqlite.put(entries)
        roster.put([])
        exported = sqlite.export()
        roster.take(exported)

        assert exported == roster.export()
        sqlite.put([])
        sqlite.take(roster.export(ndjson=True))

        assert exported == sqlite.export()

    each_catalogue()


def test_a_dry_run_shows_what_is_applied(new_roster):
    """Random files, options and catalogues: reports agree, and the plan says what is stored then.

    A refused import changes nothing.
    """
    roster = new_roster()

    @few
    @given(catalogues(), rows, options, rows)
    def each_import(entries, first, chosen, second):
        roster.put(entries)
        for file in (first, second):
            before = roster.entries()
            try:
                shown = roster.plan(file, dry_run=True, **chosen)
            except InvalidValue:
                with pytest.raises(InvalidValue, match=r"has no model: with '(prune|retire)' all"):
                    roster.plan(file, **chosen)
                return
            if shown.plan.refused:
                with pytest.raises(RowsRefused):
                    roster.plan(file, **chosen)

                assert before == roster.entries()
            applied = roster.plan(file, partial=True, **chosen)
            after = {c.id: c.after for c in applied.plan.changes}

            assert essence(shown) == essence(applied)
            assert {i: m for i, m in (before | after).items() if m} == followed(roster)
            check_rules(roster)

    each_import()


def essence(applied):
    """Return a report without what an application alone has, and without random ids."""
    text = json.dumps(report(applied, dry_run=True))
    shown = json.loads(re.sub(r"modelperm-[0-9A-Za-z]{24}", "modelperm", text))
    return {name: value for name, value in shown.items() if name not in ("seconds", "revision")}


def check_rules(roster):
    """Check that each name has one entry, no replacement ends in itself, and the log is whole."""
    entries = roster.entries()
    names = Counter(name for model in entries.values() for name in model.ids)

    assert [] == [name for name, count in names.items() if count > 1]
    by_name = {name: model for model in entries.values() for name in model.ids}
    for model in entries.values():
        last = model
        for _ in range(len(entries) + 1):
            last = last and by_name.get(last.deprecation_replacement_model)

        assert last is None, f"the replacements of {model.id} never end"
