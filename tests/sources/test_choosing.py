"""The format of a file is the one that is asked for, or the first that recognises it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import sources_of
from app.catalog.errors import InvalidValue
from app.sources import Content
from app.sources.reading import read
from tests.pages import code, tables

SHAPES = "; ".join(f"{source.name} ({source.shape})" for source in sources_of())
#: A small file of each format.
FILES = {
    "roster": {"object": "roster.export", "data": [{"id": "x", "object": "model"}]},
    "openrouter": {"data": [{"id": "a/x", "canonical_slug": "a/x", "pricing": {"prompt": "0"}}]},
    "litellm": {"x": {"litellm_provider": "a", "mode": "chat", "input_cost_per_token": 1e-6}},
    "models.dev": {"a": {"id": "a", "models": {"x": {"id": "x", "cost": {"input": 1}}}}},
    "openai": {"object": "list", "data": [{"id": "x", "pricing": {"prompt": "0"}}]},
    "ollama": {"models": [{"name": "x", "model": "x", "digest": "a", "details": {}}]},
}
TEXTS = {"csv": b"id,name,pricing.prompt\nx,X,0\n", "ids": b"x\n"}
BODIES = {name: json.dumps(value).encode() for name, value in FILES.items()} | TEXTS


def refusal(body, name="auto"):
    with pytest.raises(InvalidValue) as caught:
        sources_of().choose(read(body), name)
    assert "format" == caught.value.param
    return str(caught.value)


@pytest.mark.parametrize(("name", "body"), BODIES.items())
def test_each_format_is_recognised_and_chosen_by_name(name, body):
    """`auto` takes each for what it is; so does its name."""
    content = read(body)

    assert name == sources_of().choose(content).name == sources_of().choose(content, name).name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        # llama.cpp sends its models as Ollama does, too.
        (b'{"models": [{"name": "x", "details": {}}], "data": [{"id": "x"}]}', "openai"),
        (b'[{"id": "x"}, 5]', "openai"),
        (b'[5, {"id": "x"}]', "openai"),
        (b'{"object": "list", "data": []}', "openai"),
        (b'{"id": "x", "permission": []}', "openai"),
        (b'{"id": "x"}\n{"id": "y"}\n', "openai"),
        (b'{"object": "roster.export"}', "roster"),
        (b'{"object": "roster.export"}\n{"id": "x"}\n', "roster"),
        (b'{"data": [{"model_name": "x", "model_info": {}}]}', "litellm"),
        (b'{"a": {"models": {}}, "b": 5}', "models.dev"),
        (b"# mine\n\nacme/x:latest\n", "ids"),
    ],
)
def test_odd_files_are_recognised(body, name):
    """A few rows decide, and what only one format has decides first."""
    assert name == sources_of().choose(read(body)).name


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (b'{"error": {"code": 401}, "b": 1}', "JSON whose first members are 'error, b'"),
        (b"{}", "JSON whose first members are ''"),
        (b'["x"]', "JSON with rows, the first value being x"),
        (b'[{"name": "x"}]', "JSON with rows whose first members are 'name'"),
        (b"[[]]", "JSON with rows, the first value being []"),
        (b'{"a": 1}\n{"a": 2}', "NDJSON with rows whose first members are 'a'"),
        (b'{"models": [{"name": "models/x"}]}', "JSON whose first members are 'models'"),
        (b"<svg>\n</svg>", "text that begins with '<svg>'"),
        (b"No models here.", "text that begins with 'No models here.'"),
        (b"Model,Name\nx,X\n", "text that begins with 'Model,Name'"),
        (b"\nID;Name\nx;X\n", "text that begins with 'ID;Name'"),
        (b"model\tname\nx\tX\n", "text that begins with 'model\ufffdname'"),
    ],
)
def test_a_file_of_no_format_is_refused_with_what_was_wanted(body, got):
    """The sentence says what was got, and each shape that is read."""
    assert f"The file is of no known format: it is {got}. Wanted: {SHAPES}." == refusal(body)


def test_a_table_without_ids_is_refused():
    """As CSV it is read by its media type alone."""
    content = read(b"model\nx\n", "text/csv")
    with pytest.raises(InvalidValue, match="it is CSV with rows whose first members are 'model'"):
        sources_of().choose(content)
    with pytest.raises(InvalidValue, match="it is CSV without a row"):
        sources_of().choose(read(b"model\n", "text/csv"))


@pytest.mark.parametrize("name", BODIES)
def test_a_file_of_another_format_than_the_name_is_refused(name):
    """The sentence has the shape of the format that was asked for."""
    source = sources_of().choose(read(BODIES[name]))

    assert (
        "The file is not of the format that is asked for: it is JSON whose first members are 'a'. "
        f"Wanted: {name} ({source.shape})." == refusal(b'{"a": 1}', name)
    )


def test_an_unknown_format_is_refused_with_the_names():
    """The sentence lists each."""
    assert (
        "'format' must be one of: auto, roster, openrouter, litellm, models.dev, openai, ollama, "
        "csv, ids; not 'x'." == refusal(b"[]", "x")
    )


def test_the_page_has_each_format():
    """The table of docs/catalogues.md has each once, in the order in which they are tried."""
    names = [code(name) for name, *_ in tables("docs/catalogues.md", "Formats")]

    assert [[source.name] for source in sources_of()] == names


#: So many random files of each format are tried.
EXAMPLES = 20
#: Any JSON that a file may have; NaN and the like are refused before.
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "0", "1e9", "-1", "2025-25-11", "0001-01-01", "x"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def with_any(value):
    """Return a strategy of values like this one, with anything in any place."""
    if isinstance(value, dict):
        return ANY | st.fixed_dictionaries(
            {name: with_any(inner) for name, inner in value.items()}
        )
    if isinstance(value, list):
        return ANY | st.lists(st.one_of(*map(with_any, value)), max_size=3) if value else ANY
    return ANY | st.just(value)


#: All members that a source reads, in one object.
EVERYTHING = {
    **dict.fromkeys(
        ["id", "name", "model", "model_name", "created", "released", "modified_at"], "x"
    ),
    **dict.fromkeys(["aliases", "tags", "type", "mode", "reasoning", "tool_call", "status"], "x"),
    **dict.fromkeys(["max_tokens", "max_input_tokens", "context_length", "max_model_len"], "x"),
    **dict.fromkeys(["deprecation_date", "knowledge", "release_date", "expiration_date"], "x"),
    **dict.fromkeys(["supports_vision", "tiered_pricing", "input_cost_per_token"], "x"),
    **dict.fromkeys(["a_above_b", "canonical_slug", "litellm_provider", "source", "object"], "x"),
    "pricing": {"prompt": "0", "input": 1, "tiers": [], "discount": 0},
    "cost": {"input": 1.5, "tiers": [{}]},
    "permission": [{"id": "x", "created": 1}],
    "meta": {"n_ctx": 1},
    "limit": {"context": 1},
    "modalities": {"input": ["pdf"], "output": ["text"]},
    "architecture": {"input_modalities": ["text"]},
    "top_provider": {"max_completion_tokens": 1},
    "details": {"context_length": 1},
    "capabilities": ["tools", "embedding"],
}
CONTENTS = {
    "roster": {"object": "roster.export", "data": [EVERYTHING]},
    "litellm": {"x": EVERYTHING, "sample_spec": EVERYTHING},
    "models.dev": {"a": {"models": {"x": EVERYTHING}}},
    "ollama": {"models": [EVERYTHING]},
    "openrouter": {"data": [EVERYTHING]},
    "openai": {"data": [EVERYTHING, {"model_name": "x", "model_info": EVERYTHING}]},
}


@pytest.mark.parametrize("name", CONTENTS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_nothing_in_a_file_raises(name, data):
    """Whatever is where something is expected, each source yields rows or none."""
    value = data.draw(with_any(CONTENTS[name]))
    content = Content("json", value)
    for source in sources_of():
        if source.recognises(content):
            assert all(isinstance(row.notes, dict) for row in source.rows(content))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "",
                    "a.b",
                    "tags",
                    "tags.x",
                    "pricing.prompt",
                    "reasoning.mandatory",
                    "created",
                ]
            ),
            st.text(max_size=9),
            max_size=8,
        ),
        max_size=3,
    )
)
def test_nothing_in_a_table_raises(value):
    """Whatever a cell is, the source yields a row for each line."""
    content = Content("csv", value)
    csv = next(source for source in sources_of() if source.name == "csv")

    assert len(value) == len([*csv.rows(content)])
