"""The shapes of entries, permissions and keys."""

from typing import Any

import pytest

from app.catalog.errors import ValidationFailed
from app.catalog.model import TYPES, Model
from app.fields import PRICES
from app.names import resolve_mirrors
from app.schemas import (
    MAX_ERRORS,
    REFERENCE_FIELDS,
    AdminModelSchema,
    KeySchema,
    ModelSchema,
    RotationSchema,
    StrictSchema,
    check,
    check_together,
)
from app.strict_json import dump
from tests.pages import examples

ADMIN = AdminModelSchema()
KEY = KeySchema()
ROTATION = RotationSchema()
STRING = "Must be a string, not "
BETWEEN = "Must be between 0 and 4294967295 Unix seconds, not "
LONG = "Must be 1 to 256 characters long, not "
CONTROL = "Must not contain U+"
REFUSED = (
    "control characters, line separators, bidirectional controls and lone surrogates are refused."
)
#: What turns the text around it, or breaks its line.
TURNING = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NULL = "Must not be null: leave the field out, or give it a value."
TEXTS = ("owned_by", "root", "parent", "name")
LENGTHS = (
    "context_length",
    "max_model_len",
    "context_window",
    "max_input_tokens",
    "max_output_tokens",
    "max_completion_tokens",
)
TASK_TEXTS = (
    "work_name",
    "work_video_path",
    "wm_work_video_path",
    "no_wm_work_video_path",
    "work_webp_path",
)


def errors(fields: dict[str, Any], schema: StrictSchema = ADMIN) -> dict[str, list[str]]:
    with pytest.raises(ValidationFailed) as refusal:
        check(schema, fields)
    return refusal.value.errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x" * 256) for name in (*TEXTS, *TASK_TEXTS)),
        *((name, "") for name in ("description", *TASK_TEXTS)),
        ("id", "a/b:c (d)@e"),
        ("id", "x" * 256),
        ("name", "é\U0001f600\u200d"),
        # Persian needs the non-joiner, text from right to left marks, the flag of Wales tags.
        ("name", "\u0645\u06cc\u200c\u062e \u200e\u200f\u061c"),
        ("name", "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"),
        ("parent", None),
        ("description", "x" * 4096),
        *((name, n) for name in ("created", "available_from") for n in (0, 2**32 - 1)),
        *((name, n) for name in LENGTHS for n in (1, 2**53 - 1)),
        ("meta", {"n_ctx": 1}),
        ("aliases", [f"claude/{n}" for n in range(16)]),
        ("aliases", []),
        ("list_aliases", False),
        *(("type", kind) for kind in TYPES),
        ("tags", ["x" * 256] * 100),
        ("supported_endpoint_types", ["openai-response", "made-up"]),
        ("input_modalities", ["text"]),
        ("output_modalities", []),
        ("reasoning", {"supported_efforts": [], "default_effort": "x", "mandatory": True}),
        ("reasoning", {"mandatory": False}),
        *(("knowledge_cutoff", day) for day in ("2024", "2025-03", "2024-02-29")),
        ("permission", []),
        ("permission", [{}] * 100),
        ("permission", [{"id": "p", "created": 1, "organization": "acme", "group": None}]),
        ("permission", [{"group": "red", "is_blocking": True, "allow_view": False}]),
        ("architecture", {"input_modalities": ["text", "image"], "output_modalities": []}),
        ("supported_parameters", ["x"] * 100),
        ("pricing", {"prompt": "0.0000025", "completion": "1", "x" * 64: "0"}),
        ("pricing", {"prompt": f"{'1' * 20}.{'0' * 20}"}),
        ("pricing", {"audio": "on request", "prompt": "0"}),
        ("shutdown_date", "2028-02-29"),
        ("deprecation", "2027-01-31T00:00:00Z"),
        ("deprecation", "2027-01-31t23:59:59.123456789-12:30"),
        ("deprecation_replacement_model", "gpt-x"),
        ("metadata", {str(n): "" for n in range(16)}),
        ("metadata", {"x" * 64: "x" * 256}),
        *((n, v) for n in ("web_work_status", "create_time") for v in (-1.5, 2**53 - 1)),
    ],
)
def test_good_value(name: str, value: object) -> None:
    """A value in range is taken as it is."""
    assert {name: value} == check(ADMIN, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "field", "sentence"),
    [
        *((n, v, n, f"{STRING}{v}.") for n in (*TEXTS, *TASK_TEXTS, "id") for v in (5, [], {})),
        *((name, "", name, LONG) for name in (*TEXTS, "id")),
        *((name, "x" * 257, name, LONG) for name in (*TEXTS, "id")),
        *((name, "a\0b", name, CONTROL) for name in (*TEXTS, *TASK_TEXTS, "description")),
        ("name", "a\nb", "name", CONTROL),
        ("name", "\x7f", "name", CONTROL),
        ("name", "\ud800", "name", CONTROL),
        *(("name", f"a{c}b", "name", f"{CONTROL}{ord(c):04X}: ") for c in TURNING),
        (
            "description",
            "\u202e",
            "description",
            f"{CONTROL}202E: {REFUSED}",
        ),
        ("permission", [{"group": "\u2066"}], "permission.0.group", f"{CONTROL}2066: "),
        ("metadata", {"x": "\u2069"}, "metadata.x", f"{CONTROL}2069: "),
        ("supported_parameters", ["\u202d"], "supported_parameters.0", f"{CONTROL}202D: "),
        ("name", True, "name", f"{STRING}true."),
        *((name, None, name, NULL) for name in ("id", "owned_by", "root", "name", "created")),
        ("id", "a?b", "id", "Must not contain any of"),
        ("id", " x", "id", "Must be 1 to 256 printable ASCII"),
        ("id", "é", "id", "Must have ASCII characters alone, not 'é': "),
        ("id", "/data/x", "id", "Must not begin with a slash: "),
        ("aliases", ["é"], "aliases.0", "Must have ASCII characters alone, not 'é': "),
        ("object", "list", "object", "Must be 'model', not the text 'list'."),
        ("object", None, "object", NULL),
        ("description", "x" * 4097, "description", "Must be 0 to 4096 characters long, not 4097."),
        *((n, v, n, BETWEEN) for n in ("created", "available_from") for v in (-1, 2**32, 1e300)),
        ("created", True, "created", "Must be a whole number of Unix seconds, not true."),
        ("created", "5", "created", "Must be a whole number of Unix seconds, not the text '5'."),
        ("created", 5.5, "created", "Must be a whole number of Unix seconds, not 5.5."),
        ("available_from", "2027-01-31T01:00:00+01:00", "available_from", ": that is 1801353600."),
        ("context_length", 0, "context_length", f"Must be between 1 and {2**53 - 1}, not 0."),
        (
            "max_output_tokens",
            2**53,
            "max_output_tokens",
            f"between 1 and {2**53 - 1}, not {2**53}.",
        ),
        ("permission", None, "permission", NULL),
        ("permission", {}, "permission", "Must be a list, not {}."),
        ("permission", [{}] * 101, "permission", "Must be at most 100 permissions."),
        ("permission", [5], "permission.0", "Must be an object, not 5."),
        ("permission", [{}, {"group": 5}], "permission.1.group", f"{STRING}5."),
        ("permission", [{"organization": None}], "permission.0.organization", NULL),
        ("permission", [{"allow_view": 1}], "permission.0.allow_view", "true or false, not 1."),
        ("permission", [{"is_blocking": "true"}], "permission.0.is_blocking", "true or false"),
        ("permission", [{"created": 2**32}], "permission.0.created", BETWEEN),
        ("permission", [{"object": "x"}], "permission.0.object", "Must be 'model_permission'"),
        ("permission", [{"gruop": "x"}], "permission.0.gruop", "Unknown field; is 'group' meant?"),
        ("architecture", "text", "architecture", "Must be an object, not the text 'text'."),
        ("architecture", {"modality": []}, "architecture.modality", "Unknown field"),
        (
            "architecture",
            {"input_modalities": ["a", 5]},
            "architecture.input_modalities.1",
            f"{STRING}5.",
        ),
        ("supported_parameters", ["x"] * 101, "supported_parameters", "at most 100 strings."),
        ("pricing", [], "pricing", "Must be an object, not []."),
        ("pricing", {"prompt": "free"}, "pricing.prompt", "not the text 'free'."),
        ("pricing", {"x": None}, "pricing.x", NULL),
        ("pricing", {"x": 0.1}, "pricing.x", 'Must be a string such as "0.0000025", not 0.1.'),
        *(
            ("pricing", {"x": "x", kind: "free"}, f"pricing.{kind}", "Must be a decimal string")
            for kind in PRICES
        ),
        *(
            ("pricing", {"image": price}, "pricing.image", "Must be a decimal string")
            for price in ("1e-6", "-1", ".5", "1.", "free", "1 USD", "0.5x", "1" * 21, "٣")
        ),
        ("pricing", {str(n): "1" for n in range(101)}, "pricing", "Must be at most 100 pairs."),
        *((n, 0, n, f"Must be between 1 and {2**53 - 1}, not 0.") for n in LENGTHS),
        ("meta", {"n_ctx": "5"}, "meta.n_ctx", "Must be a whole number, not the text '5'."),
        ("meta", {"n_ctx_train": 5}, "meta.n_ctx_train", "Unknown field; is 'n_ctx' meant?"),
        ("aliases", ["a?"], "aliases.0", "Must not contain any of"),
        ("aliases", [str(n) for n in range(17)], "aliases", "Must be at most 16 ids."),
        ("aliases", ["a", "b", "a"], "aliases", "Must have each id once."),
        ("aliases", "a", "aliases", "Must be a list, not the text 'a'."),
        ("list_aliases", 1, "list_aliases", "Must be true or false, not 1."),
        ("type", "chat", "type", "Must be one of: language, embedding, image, video, speech, "),
        ("type", "chat", "type", "rerank, moderation; not the text 'chat'."),
        ("tags", [5], "tags.0", f"{STRING}5."),
        ("reasoning", True, "reasoning", "Must be an object, not true."),
        ("reasoning", {"mandatory": "no"}, "reasoning.mandatory", "Must be true or false"),
        ("reasoning", {"effort": "low"}, "reasoning.effort", "Unknown field"),
        *(
            ("knowledge_cutoff", day, "knowledge_cutoff", "Must be a day, month or year like")
            for day in ("2025-13", "2025-02-29", "25", "202503", "2025-", "2025-3", "March 2025")
        ),
        ("shutdown_date", "2027-02-29", "shutdown_date", "not '2027-02-29'."),
        ("shutdown_date", "20270131", "shutdown_date", "Must be a date like 2027-01-31"),
        ("shutdown_date", "2027-01-31 ", "shutdown_date", "Must be a date like 2027-01-31"),
        ("deprecation", "2027-01-31", "deprecation", "Must be an RFC 3339 time"),
        ("deprecation", "2027-01-31T00:00:00", "deprecation", "Must be an RFC 3339 time"),
        ("deprecation", "2027-01-32T00:00:00Z", "deprecation", "Must be an RFC 3339 time"),
        ("deprecation_replacement_model", "a?", "deprecation_replacement_model", "any of"),
        ("metadata", {str(n): "" for n in range(17)}, "metadata", "Must be at most 16 pairs."),
        ("metadata", {"a": ["b"]}, "metadata.a", f'{STRING}["b"].'),
        ("metadata", {"value": 5}, "metadata.value", f"{STRING}5."),
        ("metadata", {"": "x"}, "metadata", "Must be 1 to 64 characters long, not 0."),
        ("web_work_status", "5", "web_work_status", "Must be a number, not the text '5'."),
        ("create_time", True, "create_time", "Must be a number, not true."),
        ("create_time", 2**53, "create_time", f"between -{2**53 - 1} and {2**53 - 1}, not"),
        ("ownedby", "x", "ownedby", "Unknown field; is 'owned_by' meant?"),
        ("max_tokens", 5, "max_tokens", "Unknown field; is 'max_output_tokens' meant?"),
        ("inputTokenLimit", 5, "inputTokenLimit", "Unknown field; is 'max_input_tokens' meant?"),
        ("zzzz", "x", "zzzz", "Unknown field."),
        (
            "pricing.prompt",
            None,
            "pricing.prompt",
            "'prompt' is no field, but may be in 'pricing'.",
        ),
        ("x" * 100, "x", "x" * 29 + "…", "Unknown field."),
        *((name, "x", name, "Unknown field") for name in ("key", "value", "_schema")),
    ],
)
def test_bad_value(name: str, value: object, field: str, sentence: str) -> None:
    """A bad value is refused under its dotted name, by a sentence that says what it must be."""
    found = errors({name: value})

    assert [field] == list(found)
    [said] = found[field]
    assert sentence in said
    assert said.endswith((".", "?"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"context_length": 5, "max_input_tokens": 5}, []),
        ({"max_input_tokens": 5}, []),
        ({"context_length": 5, "max_input_tokens": 6}, ["max_input_tokens"]),
        ({"reasoning": {"supported_efforts": ["low"], "default_effort": "low"}}, []),
        ({"reasoning": {"default_effort": "low"}}, []),
        (
            {"reasoning": {"supported_efforts": [], "default_effort": "low"}},
            ["reasoning.default_effort"],
        ),
        ({"available_from": 1_799_971_199, "shutdown_date": "2027-01-15"}, []),
        ({"available_from": 1_799_971_200, "shutdown_date": "2027-01-15"}, ["shutdown_date"]),
        ({"available_from": 0, "shutdown_date": "0001-01-01"}, ["shutdown_date"]),
        ({"shutdown_date": "0001-01-01"}, []),
        ({"id": "x", "aliases": ["y"]}, []),
        ({"id": "x", "aliases": ["y", "x"]}, ["aliases"]),
    ],
)
def test_fields_that_contradict_one_another(fields: dict[str, Any], expected: list[str]) -> None:
    """What two fields say of each other is checked once both are known."""
    found = {}
    try:
        check_together({"id": "x", **fields})
    except ValidationFailed as refusal:
        found = refusal.errors

    assert expected == list(found)


@pytest.mark.parametrize("name", ["created", "context_length", "max_output_tokens"])
def test_whole_floats(name: str) -> None:
    """5.0 is the integer 5."""
    value = check(ADMIN, {name: 5.0})[name]

    assert 5 == value
    assert isinstance(value, int)


def test_every_mistake() -> None:
    """All mistakes are told at once, unknown fields among them."""
    found = errors({"idd": "x", "created": "5", "permission": [{"group": 5, "gruop": "x"}]})

    assert {"idd", "created", "permission.0.group", "permission.0.gruop"} == set(found)


def test_bad_pair() -> None:
    """A pair with a bad key and a bad value has both mistakes told."""
    assert 2 == len(errors({"metadata": {"x" * 65: 5}})["metadata." + "x" * 29 + "…"])


@pytest.mark.parametrize(
    "fields",
    [
        {f"unknown{n}": n for n in range(25)},
        {"permission": [{"group": n} for n in range(25)]},
        {"permission": [{f"unknown{n}": n for n in range(25)}]},
    ],
)
def test_error_count(fields: dict[str, Any]) -> None:
    """A refusal names at most 20 fields."""
    assert 20 == MAX_ERRORS
    assert 20 == len(errors(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 300: 1},
        {"created": "x" * 300},
        {"owned_by": ["x" * 300]},
        {"permission": ["x" * 300]},
        {"permission": [{"x" * 300: 1}]},
        {"object": "x" * 300},
        {"shutdown_date": "x" * 200},
        {"deprecation": "x" * 200},
        {"pricing": {"x" * 64: ["x" * 300]}},
        {"metadata": {"x" * 64: {"x" * 300: 1}}},
    ],
)
def test_quoted_length(fields: dict[str, Any]) -> None:
    """No sentence, and no message made of one, repeats more than 60 characters of input."""
    with pytest.raises(ValidationFailed) as refusal:
        check(ADMIN, fields)

    [(field, [sentence])] = refusal.value.errors.items()
    for text in (field, sentence, str(refusal.value)):
        assert 60 >= text.count("x")


def test_unprintable() -> None:
    """What cannot be printed is replaced in a sentence."""
    found = errors({"created": "a\n\x1b[31m\ud800"})

    assert {
        "created": [
            "Must be a whole number of Unix seconds, not the text 'a\ufffd\ufffd[31m\ufffd'."
        ]
    } == found


def test_given_back() -> None:
    """Constants of our answers are checked and left out; what else is read-only is ignored."""
    fields = {
        "object": "model",
        "revision": "x",
        "capabilities": [],
        "permission": [{"object": "model_permission"}],
    }

    assert {"permission": [{}]} == check(ADMIN, fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"scopes": ["read"], "organization": None, "groups": [], "expires_at": None}),
        ({"scopes": ["admin", "read"]}, {"scopes": ["admin", "read"]}),
        ({"organization": "acme", "groups": ["red"]}, {"organization": "acme", "groups": ["red"]}),
        ({"expires_at": 2**32 - 1}, {"expires_at": 2**32 - 1}),
    ],
)
def test_good_key(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Of a key, only the name is required."""
    assert {"name": "x", **expected}.items() <= check(KEY, {"name": "x", **fields}).items()


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({}, "name", "Missing: describe what the key is for."),
        ({"name": ""}, "name", LONG),
        ({"name": None}, "name", NULL),
        ({"name": "x", "scopes": []}, "scopes", "Must be one or two scopes."),
        ({"name": "x", "scopes": ["write"]}, "scopes.0", "read, admin; not the text 'write'."),
        ({"name": "x", "scopes": ["read", 5]}, "scopes.1", f"{STRING}5."),
        ({"name": "x", "organization": "*"}, "organization", "Must name one organization"),
        ({"name": "x", "groups": ["x"] * 101}, "groups", "Must be at most 100 strings."),
        ({"name": "x", "groups": [""]}, "groups.0", LONG),
        ({"name": "x\u202e"}, "name", CONTROL),
        ({"name": "x", "organization": "\u2067"}, "organization", CONTROL),
        ({"name": "x", "groups": ["\u202b"]}, "groups.0", CONTROL),
        ({"name": "x", "expires_at": 2**32}, "expires_at", BETWEEN),
        ({"name": "x", "digest": "x"}, "digest", "Unknown field."),
        ({"name": "x", "id": "x"}, "id", "Unknown field."),
        ({"name": "x", "revoked_at": 1}, "revoked_at", "Unknown field."),
    ],
)
def test_bad_key(fields: dict[str, Any], field: str, sentence: str) -> None:
    """A bad field of a key is refused under its name."""
    found = errors(fields, KEY)

    assert [field] == list(found)
    assert sentence in found[field][0]


def test_rotation() -> None:
    """The grace of a rotation is a day, and at most 90."""
    assert {"grace": 86_400} == check(ROTATION, {})
    assert {"grace": 0} == check(ROTATION, {"grace": 0.0})
    assert {"grace": ["Must be between 0 and 7776000 seconds, not 7776001."]} == errors(
        {"grace": 7_776_001}, ROTATION
    )


def test_not_an_object() -> None:
    """Anything but an object is refused."""
    assert {"": ["Must be an object, not [5]."]} == errors([5])


ITEM = {
    "id": "chatgpt-4o-latest",
    "permission": [{"id": "modelperm-LwHkVFn8AcMItP432fKKDIKJ"}],
}
REFERENCE = (
    '{"id":"chatgpt-4o-latest","object":"model","created":1626777600,"owned_by":"custom",'
    '"permission":[{"id":"modelperm-LwHkVFn8AcMItP432fKKDIKJ","object":"model_permission",'
    '"created":1626777600,"allow_create_engine":true,"allow_sampling":true,'
    '"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,'
    '"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}],'
    '"root":"chatgpt-4o-latest","parent":null}'
)


@pytest.mark.parametrize("schema", [ModelSchema(), ModelSchema(only=REFERENCE_FIELDS)])
def test_reference_reply(schema: ModelSchema) -> None:
    """An entry with nothing but its id is the reference's item, byte for byte."""
    model = Model.compose(check(ADMIN, ITEM), now=1_626_777_600)

    assert REFERENCE == dump(schema.dump(model))


def test_optional_fields() -> None:
    """They follow the reference's seven in the order of `docs/fields.md`, and come back unchanged.

    The examples of that page are the values, or else the least that a field takes.
    """
    least = {"description": "", "tags": [], "metadata": {}, "web_work_status": 0}
    optional = {
        name: value
        for name, value in (examples("Entry") | least | dict.fromkeys(TASK_TEXTS, "")).items()
        if name not in ADMIN.read_only.union(REFERENCE_FIELDS)
    }
    model = Model.compose(resolve_mirrors(check(ADMIN, ITEM | optional), None), now=5)
    derived = {"capabilities": examples("Entry")["capabilities"]}

    public = ModelSchema().dump(model)
    admin = ADMIN.dump(model)

    del optional["metadata"]  # without pairs it says nothing, and is left out
    hidden = {name: optional.pop(name) for name in ("list_aliases", "available_from")}
    names = [n for n in examples("Entry") if n in optional | derived]
    assert [*REFERENCE_FIELDS, *names] == list(public)
    assert public | hidden | {"revision": 0} == admin
    assert (optional | derived).items() <= public.items()
    again = resolve_mirrors(check(ADMIN, admin), model)
    assert model == Model.compose(again, now=9, stored=model)
