"""What clients make of our replies, by the rules of their own source, in our words.

Zed and Goose are written in Rust and cannot be started here; a client that takes an integer as a
u64 or a list as a Vec refuses the whole reply for one other value.
"""

import pytest

from tests.dialects.conftest import FULL

#: Under these words hermes-agent takes a value for a price; one that is a list or an object makes
#: it drop all that it knows of the endpoint (``_extract_pricing`` of the file named below).
PRICE_WORDS = {
    *("prompt", "input", "input_cost_per_token", "prompt_token_cost"),
    *("completion", "output", "output_cost_per_token", "completion_token_cost"),
    *("request", "request_cost"),
    *("cache_read", "cached_prompt", "input_cache_read", "cache_read_cost_per_token"),
    *("cache_write", "cache_creation", "input_cache_write", "cache_write_cost_per_token"),
}
#: Under these it takes a value for the context length, and for the longest output.
CONTEXT_WORDS = {
    *("context_length", "context_window", "context_size", "max_context_length"),
    *("max_position_embeddings", "max_model_len", "max_input_tokens", "max_sequence_length"),
    *("max_seq_len", "n_ctx_train", "n_ctx", "ctx_size"),
}
OUTPUT_WORDS = {"max_completion_tokens", "max_output_tokens", "max_tokens"}
#: What some read as the context, and what Zed takes for the state of a llama.cpp server.
NEVER_SENT = {"max_tokens", "status"}


class RefusedError(Exception):
    """A client has no models at all, for one value that it does not take."""


def required(kind, value):
    """Return a value that is of a kind; true is no integer, and no integer is below 0."""
    if type(value) is not kind or (kind is int and value < 0):
        raise RefusedError(value)
    return value


def optional(kind, value):
    """Return a value that may be absent or null."""
    return None if value is None else required(kind, value)


def texts(mapping, name):
    """Return a list of strings that may be absent, but not null."""
    return [required(str, text) for text in required(list, mapping.get(name, []))]


def modalities(item):
    """Return what goes into a model, for Zed."""
    return texts(optional(dict, item.get("architecture")) or {}, "input_modalities")


def zed_llama_cpp(item):
    """Return the context length, and whether an image may be sent.

    zed-industries/zed, crates/llama_cpp/src/llama_cpp.rs at
    3600c4f68c12a7e4df4197037e181a5f92bb28dd and crates/language_models/src/provider/llama_cpp.rs
    at 01eca11cc9c3b3c5b911afcd66a8134906920c52.
    """
    required(str, item.get("id"))
    meta = optional(dict, item.get("meta")) or {}
    trained = optional(int, meta.get("n_ctx_train"))
    context = optional(int, meta.get("n_ctx")) or trained or 131_072
    if (status := optional(dict, item.get("status"))) is not None:
        required(str, status.get("value"))
    return context, "image" in modalities(item)


def zed_vercel(item):
    """Return the context length, whether an image may be sent, and whether tools; None hides it.

    zed-industries/zed, crates/language_models/src/provider/vercel_ai_gateway.rs at
    014676e49857c2b2fec5b57883880c1db05f1ca7.
    """
    required(str, item.get("id"))
    optional(str, item.get("name"))
    output = optional(int, item.get("max_tokens"))
    context = optional(int, item.get("context_window")) or output or 128_000
    tags = {tag.strip().lower() for tag in texts(item, "tags")}
    images = "image" in modalities(item) or bool(tags & {"vision", "image-input"})
    tools = "tools" in texts(item, "supported_parameters") or bool(tags & {"tool-use", "tools"})
    kind = optional(str, item.get("type"))
    return None if kind not in (None, "language") else (context, images, tools)


def zed_openrouter(item):
    """Return the context length and whether an image may be sent.

    zed-industries/zed, crates/open_router/src/open_router.rs at
    033d8478109efb75f85118c497e64ec1d5404b5e.
    """
    for name in ("id", "name", "description"):
        required(str, item.get(name))
    required(int, item.get("created"))
    texts(item, "supported_parameters")
    context = optional(int, item.get("context_length"))
    return 2_000_000 if context is None else context, "image" in modalities(item)


def goose(items, model_id):
    """Return the context length of a model.

    block/goose, crates/goose-providers/src/openai.rs at
    646042653f6cd02407fba9bef0b8f0626edca1fc, ``parse_n_ctx_from_models``.
    """
    found = [item for item in items if item.get("id") == model_id] or items
    meta = found[0].get("meta") if len(found) == 1 else None
    context = meta.get("n_ctx") if isinstance(meta, dict) else None
    return context if type(context) is int and context >= 0 else 128_000


def mappings(value):
    """Yield an object and those inside it, the outer ones first, in the order of the JSON."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from mappings(each)


def hermes(item, words):
    """Return the first length under one of some words, None if there is none.

    hermes-agent 0.19.0 on PyPI, agent/model_metadata.py, ``_extract_first_int``. It takes strings
    too; we send none.
    """
    values = (v for mapping in mappings(item) for n, v in mapping.items() if n.lower() in words)
    return next((v for v in values if type(v) is int and 1024 <= v <= 10_000_000), None)


@pytest.fixture
def read(client, catalogue, admin):
    """Each item of the list by id, which a retrieval says in the same order."""
    # Numbers that an administrator may send as floats, and metadata that looks like prices.
    admin.add(
        "sent/floats",
        name="Floats",
        description="",
        context_length=4e5,
        max_input_tokens=272000.0,
        max_output_tokens=128000.0,
        pricing={"prompt": "0.5", "completion": "1", "input_cache_read": "0.1", "request": "0"},
        metadata={"output": "text", "input": "image"},
    )
    items = client.get("/v1/models").json["data"]
    alone = [client.get(f"/v1/models/{item['id']}").json for item in items]
    assert items == alone
    assert list(map(list, items)) == list(map(list, alone)), "in the same order"
    return {item["id"]: item for item in items}


def test_zed_reads_the_context_and_images(read):
    """Zed's three providers take each item, and know what we know."""
    assert {
        "acme/seer:8b": ((400_000, True), (400_000, True, True)),
        "embed": ((131_072, False), (128_000, False, False)),
        "sent/floats": ((400_000, False), (400_000, False, False)),
        "x": ((131_072, False), (128_000, False, False)),
    } == {name: (zed_llama_cpp(item), zed_vercel(item)) for name, item in read.items()}
    assert (400_000, True) == zed_openrouter(read["acme/seer:8b"])
    assert (400_000, False) == zed_openrouter(read["sent/floats"])


def test_openrouters_clients_want_name_and_description(read):
    """Zed's provider for OpenRouter refuses a list with an entry that lacks one."""
    with pytest.raises(RefusedError):
        zed_openrouter(read["x"])


def test_a_type_that_is_no_language_hides_a_model(client, admin):
    """Zed's provider for Vercel shows what has no type, and language models."""
    for kind in ("embedding", "language"):
        admin.add(kind, type=kind)
    admin.add("unknown")
    shown = [item["id"] for item in client.get("/v1/models").json["data"] if zed_vercel(item)]

    assert ["language", "unknown"] == shown


def test_goose_reads_the_context(read):
    """Goose has the context of each model that has one, under its own id."""
    items = [*read.values()]

    assert [400_000, 128_000, 400_000, 128_000] == [goose(items, model_id) for model_id in read]
    assert 128_000 == goose(items, "claude-seer"), "an alias that is not listed"


def test_a_listed_alias_is_read_like_its_model(client, admin):
    """With list_aliases each client knows of an alias what it knows of the model."""
    admin("POST", "/admin/models", FULL | {"list_aliases": True})
    items = client.get("/v1/models").json["data"]

    assert sorted(FULL["aliases"] + [FULL["id"]]) == [item["id"] for item in items]
    for item in items:
        alone = client.get(f"/v1/models/{item['id']}").json
        assert list(item.items()) == list(alone.items())
        assert (400_000, True) == zed_llama_cpp(item) == zed_openrouter(item)
        assert (400_000, True, True) == zed_vercel(item)
        assert 400_000 == goose(items, item["id"]) == hermes(item, CONTEXT_WORDS)


def test_hermes_takes_the_first_length(read):
    """The context comes before the longest prompt, and no price is metadata."""
    context = {name: hermes(item, CONTEXT_WORDS) for name, item in read.items()}
    output = {name: hermes(item, OUTPUT_WORDS) for name, item in read.items()}
    prices = {
        name: next((m for m in mappings(item) if PRICE_WORDS & m.keys()), None)
        for name, item in read.items()
    }

    nothing = dict.fromkeys(read)
    assert nothing | {"acme/seer:8b": 400_000, "sent/floats": 400_000} == context
    assert nothing | {"acme/seer:8b": 128_000, "sent/floats": 128_000} == output
    assert nothing | {name: read[name]["pricing"] for name in ("acme/seer:8b", "sent/floats")} == (
        prices
    )


def test_a_longest_prompt_alone_is_not_the_context(client, admin):
    """Of a model whose context is unknown, Zed assumes its default; hermes takes the prompt."""
    admin.add("y", max_input_tokens=272_000)
    item = client.get("/v1/models/y").json

    assert (131_072, 128_000) == (zed_llama_cpp(item)[0], zed_vercel(item)[0])
    assert 272_000 == hermes(item, CONTEXT_WORDS)


def test_no_client_stumbles_over_an_item(read):
    """No object has what clients take for something else, no null but two, and no float."""
    for mapping in (mapping for item in read.values() for mapping in mappings(item)):
        assert not NEVER_SENT & mapping.keys()
        assert {n for n, value in mapping.items() if value is None} <= {"parent", "group"}
        assert not any(isinstance(value, float) for value in mapping.values())
        prices = [value for name, value in mapping.items() if name in PRICE_WORDS]
        assert all(isinstance(price, str) for price in prices)
