"""Rows that nobody would write: each is bounded, and shows nobody more than its file says."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.administration import rows
from app.administration.rows import check_each
from app.catalog.errors import InvalidValue
from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema, check

FIELDS = [*AdminModelSchema().load_fields]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("a.\ud800\0", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab."), inner, max_size=3),
    max_leaves=6,
)
any_fields = st.dictionaries(
    st.sampled_from(FIELDS) | st.text("permison.\0", max_size=12), json_values, max_size=8
)


def an_export(*entries):
    return json.dumps({"object": "roster.export", "data": entries}).encode()


@given(any_fields)
@settings(max_examples=100, deadline=None)
def test_any_row_is_taken_without_its_mistakes(fields):
    """What is left of it is right, and each field that is not is named."""
    left, wrong = check_each(fields)
    check(AdminModelSchema(), left)
    named = {path.partition(".")[0] for path in wrong}
    known = {name for name in fields if name in FIELDS and name not in MIRROR_FIELDS}

    assert known - {"object"} <= left.keys() | named


@pytest.mark.parametrize(
    "fields",
    [
        {"permission": "acme"},
        {"permission": {"organization": "acme"}},
        {"permission": [{"organization": 7}]},
        {"permission": [{"organisation": "acme"}]},
        {"permission": [None]},
        {"permission": [{"organization": "acme", "is_blocking": "true"}]},
        {"permission": [{"id": str(n), "organization": "acme"} for n in range(1000)]},
        {"available_from": "tomorrow"},
        {"permission": 7, **{f"unknown-{n}": n for n in range(100)}},
        {**dict.fromkeys(FIELDS, object), "pricing": {"x" * n: n for n in range(99)}},
    ],
)
def test_a_wrong_permission_shows_an_entry_to_nobody(roster, fields):
    """Not as a new entry, and not as one that exists, until a row is right again."""
    fields = {n: v for n, v in fields.items() if n not in ("id", "object")}
    fields = json.loads(json.dumps(fields, default=str))
    for body in (an_export({"id": "a", **fields}), json.dumps([{"id": "b", **fields}]).encode()):
        for _ in range(2):
            report = roster.take(body, on_conflict="update", source="s")
            [place] = {row["id"] for row in report["degraded"]}

            assert () == roster.entries()[place].permission
            assert any("nobody sees" in row["message"] for row in report["degraded"])
    roster.take(an_export({"id": "a"}, {"id": "c", "permission.group": "x"}), on_conflict="update")

    assert [1, 0] == [len(roster.entries()[i].permission) for i in "ac"]


def test_no_permissions_at_all_are_not_everybody(roster):
    """Null in an export hides the entry; a field that is left out has its default."""
    roster.take(an_export({"id": "a", "permission": None}, {"id": "b"}))

    assert {"a": 0, "b": 1} == {i: len(m.permission) for i, m in roster.entries().items()}


@pytest.mark.parametrize("source", ["\ud800", "x" * 65, "a b", ""])
def test_a_name_that_no_source_can_have_is_left_out(roster, source):
    """The entry is of no source, and the report says why."""
    report = roster.take(an_export({"id": "a", "source": source}))

    assert (None, ["source"]) == (
        roster.entries()["a"].source,
        [row["field"] for row in report["degraded"]],
    )


def test_a_report_is_short_text_whatever_a_file_has(roster):
    """Keys of megabytes or with half a character are shown cut, and as one line."""
    long, odd = "x" * 1_000_000, "\ud800\n"
    files = [
        {key: {"litellm_provider": "x", "input_cost_per_token": []} for key in (long, odd)},
        [{"id": "a", "pricing": {long: "z", odd: "z", "q": -1}}],
        {"p": {"models": {long: {}, odd: {}}}},
        [{"id": long}, {"id": odd}, {"id": [long]}, {"id": "a", long: 1, odd: 1}],
    ]
    for file in files:
        report = roster.take(json.dumps(file).encode(), dry_run=True)

        assert len(json.dumps(report, ensure_ascii=False).encode()) < 3000


def test_a_row_with_many_unknown_fields_is_checked_twice(roster, monkeypatch):
    """The first are named, and the others counted: more fields are no more checks."""
    checks = []
    monkeypatch.setattr(rows, "check", lambda *given: checks.append(1) or check(*given))
    fields = {f"unknown-{number}": 1 for number in range(10_000)}
    report = roster.take(an_export({"id": "a", **fields}))

    assert 2 == len(checks)
    assert 21 == len(report["degraded"])
    assert "9980 more fields are unknown." == report["degraded"][-1]["message"]


@pytest.mark.parametrize("name", ["pricing", "metadata", "architecture", "meta"])
def test_an_object_with_many_mistakes_is_checked_a_few_times(name, monkeypatch):
    """After the mistakes that the first check names, the whole object goes."""
    checks = []
    monkeypatch.setattr(rows, "check", lambda *given: checks.append(1) or check(*given))
    left, wrong = check_each({name: {f"m{number}": 1 for number in range(1000)}, "name": "A"})

    assert ({"name": "A"}, True) == (left, len(checks) <= 4)
    assert {name} == {path.partition(".")[0] for path in wrong}


def test_a_file_of_mistakes_is_refused(roster, monkeypatch):
    """It would fill the memory with sentences; one that is sent says what they are like."""
    monkeypatch.setattr(rows, "MAX_MISTAKES", 10)
    roster.take(an_export(*({"id": f"a{n}", "name": 1} for n in range(10))))
    with pytest.raises(InvalidValue, match=r"more than 10 mistakes, such as name of 'b10': Must"):
        roster.take(an_export(*({"id": f"b{n}", "name": 1} for n in range(11))))


def test_a_file_of_too_many_rows_is_refused(roster, monkeypatch):
    """Each may be a line of a few bytes, and takes far more memory as an entry."""
    monkeypatch.setattr(rows, "MAX_ROWS", 10, raising=False)
    roster.take(an_export(*({"id": f"a{n}"} for n in range(10))))
    with pytest.raises(InvalidValue, match="more than 10 rows: split it"):
        roster.take(an_export(*({"id": f"b{n}"} for n in range(11))))

    assert "b0" not in roster.entries()


def test_an_empty_object_is_unknown(roster):
    """It removes nothing that another source has set."""
    roster.update({"id": "a", "pricing": {"prompt": "1"}}, source="other")
    roster.update({"id": "a", "pricing": {"prompt": -1}})

    assert {"prompt": "1"} == roster.entries()["a"].pricing


def test_an_odd_name_costs_no_other_field(roster):
    """An unknown field whose name begins like a known one is the only one to go."""
    roster.take(an_export({"id": "a", "pricing": {"prompt": "1"}, "pricing.x": 1, "name.y": 1}))

    assert {"prompt": "1"} == roster.entries()["a"].pricing


def test_a_long_circle_is_shown_by_its_ends(roster):
    """Each of its rows gets a short sentence."""
    rows = [
        {"id": f"m{n}", "deprecation_replacement_model": f"m{(n + 1) % 50}"} for n in range(50)
    ]
    [first, *_] = roster.take(rows)["degraded"]

    assert "m1 -> m2 -> m3 -> m4 -> … -> m0." == first["message"].partition(": ")[2]
