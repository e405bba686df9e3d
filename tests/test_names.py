"""A fact is stored once, and has all its names; a body may have any of them."""

import pytest

from app.catalog.errors import ValidationFailed
from app.catalog.model import TYPES, Model
from app.names import MIRRORS, NAMES, reader, resolve_mirrors
from app.schemas import AdminModelSchema

#: By fact, two values that it may have.
VALUES = {
    "context_length": (8192, 4096),
    "max_output_tokens": (1024, 512),
    "architecture.input_modalities": (["text"], ["text", "image"]),
    "architecture.output_modalities": (["text"], []),
}


def body(path, value):
    """Return the body that has this value under a name, which may be inside an object."""
    name, _, member = path.partition(".")
    return {name: {member: value} if member else value}


def model(**fields):
    return Model.compose({"id": "x", **fields}, now=0)


def test_every_fact_has_values_here():
    """The tests below try each fact that has another name."""
    assert VALUES.keys() == {*MIRRORS.values()}


@pytest.mark.parametrize(("mirror", "fact"), MIRRORS.items())
def test_a_name_sets_its_fact(admin, mirror, fact):
    """Where a body has only another name, the fact is stored, and shown under each name."""
    old, new = VALUES[fact]
    answers = [
        admin("POST", "/admin/models", {"id": "x", **body(mirror, old)}),
        admin("PUT", "/admin/models/x", body(mirror, old)),
        admin("PATCH", "/admin/models/x", body(mirror, new)),
        admin("PUT", "/admin/models/x", body(mirror, new)),
        admin("PUT", "/admin/models/y", body(mirror, new)),
    ]

    assert [201, 200, 200, 200, 201] == [answer.status_code for answer in answers]
    for answer, value in zip(answers, (old, old, new, new, new), strict=True):
        for name in (fact, *(n for n, other in MIRRORS.items() if other == fact)):
            assert value == value_of_json(answer.json, name)
    assert answers[0].json["revision"] == answers[1].json["revision"], "nothing changed"


@pytest.mark.parametrize(("mirror", "fact"), MIRRORS.items())
def test_a_reply_is_changed_and_sent_back(admin, mirror, fact):
    """PUT takes what GET answered, with a new value under the fact's name or another one."""
    old, new = VALUES[fact]
    for changed in (fact, mirror):
        admin("PUT", "/admin/models/x", body(fact, old))
        reply = admin("GET", "/admin/models/x").json
        if changed == mirror:  # the fact itself would be the one that counts
            head, _, member = fact.partition(".")
            reply[head] = {} if member else reply[head]
            if not member:
                del reply[head]
        reply.update(body(changed, new))
        answer = admin("PUT", "/admin/models/x", reply)

        assert 200 == answer.status_code, answer.json
        assert body(mirror, new).items() <= answer.json.items()


@pytest.mark.parametrize(("mirror", "fact"), MIRRORS.items())
def test_a_name_that_contradicts_is_refused(admin, mirror, fact):
    """A value that is neither the new nor the stored one is a 422 that names both."""
    old, new = VALUES[fact]
    admin("PUT", "/admin/models/x", body(fact, new))
    other = body(mirror, old)
    for method, path, given in (
        ("POST", "/admin/models", {"id": "y", **body(fact, new), **other}),
        ("PUT", "/admin/models/x", {**body(fact, new), **other}),
        ("PATCH", "/admin/models/x", {**body(fact, new), **other}),
    ):
        answer = admin(method, path, given)
        [(field, [sentence])] = answer.json["error"]["errors"].items()

        assert (422, mirror) == (answer.status_code, field)
        assert f"Contradicts {fact}, which is " in sentence
        assert new == value_of_json(admin("GET", "/admin/models/x").json, mirror)


def value_of_json(entry, path):
    for name in path.split("."):
        entry = entry[name]
    return entry


def test_two_names_that_contradict_are_refused():
    """Two other names with different new values are refused, in the name of both."""
    with pytest.raises(ValidationFailed) as refusal:
        resolve_mirrors({"max_model_len": 5, "context_window": 6, "meta": {"n_ctx": 5}}, None)

    sentence = "Contradicts max_model_len, which is 5: send one of them."
    assert {"context_window": [sentence]} == refusal.value.errors


def test_the_changed_one_of_two_names_counts():
    """Of two names in a reply that is sent back, the one with a new value sets the fact."""
    stored = model(context_length=8192)

    assert {"context_length": 5} == resolve_mirrors(
        {"max_model_len": 8192, "context_window": 5}, stored
    )


@pytest.mark.parametrize("mirror", MIRRORS)
def test_null_removes_a_fact_by_any_name(admin, mirror):
    """In a merge patch, null under another name removes the fact; elsewhere it is refused."""
    fact = MIRRORS[mirror]
    admin("PUT", "/admin/models/x", body(fact, VALUES[fact][0]))
    refused = admin("PUT", "/admin/models/x", body(mirror, None))
    answer = admin("PATCH", "/admin/models/x", body(mirror, None))

    assert (422, 200) == (refused.status_code, answer.status_code)
    assert not {mirror.partition(".")[0], fact.partition(".")[0]} & answer.json.keys()


def test_a_removed_fact_stays_removed(admin):
    """null for the fact beside its stored value under another name removes it."""
    admin("PUT", "/admin/models/x", {"context_length": 8192, "max_output_tokens": 5})
    answer = admin("PATCH", "/admin/models/x", {"context_length": None, "max_model_len": 8192})

    assert not {"context_length", "max_model_len", "meta"} & answer.json.keys()
    assert 5 == answer.json["max_completion_tokens"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"context_length": 5, "type": "language"}, None),
        ({"architecture": {"output_modalities": ["text"]}}, None),
        (
            {"architecture": {"input_modalities": ["text", "audio"]}},
            {"vision": False, "audio_input": True},
        ),
        ({"architecture": {"input_modalities": []}}, {"vision": False, "audio_input": False}),
        (
            {"supported_parameters": []},
            {"tools": False, "reasoning": False, "structured_outputs": False},
        ),
        (
            {"supported_parameters": ["structured_outputs", "reasoning_effort"]},
            {"tools": False, "reasoning": True, "structured_outputs": True},
        ),
        ({"reasoning": {"mandatory": False}}, {"reasoning": True}),
        (
            {"reasoning": {"mandatory": True}, "supported_parameters": ["tools"]},
            {"tools": True, "reasoning": True, "structured_outputs": False},
        ),
    ],
)
def test_capabilities_are_what_follows(fields, expected):
    """A capability is there if the field that it follows from is known, and else left out."""
    assert expected == model(**fields).capabilities


@pytest.mark.parametrize("kind", [None, *TYPES])
def test_only_models_of_text_are_for_chats(client, admin, kind):
    """A type decides what Gemini's and Ollama's clients may ask a model for."""
    admin.add("x", **({} if kind is None else {"type": kind}))
    [gemini] = client.get("/v1beta/models").json["models"]
    ollama = client.post("/api/show", json={"model": "x"}).json

    text = ["generateContent", "countTokens"]
    methods = {None: text, "language": text, "embedding": ["embedContent"]}
    words = {None: ["completion"], "language": ["completion"]}
    words |= {"embedding": ["embedding"], "image": ["image"]}
    assert methods.get(kind, []) == gemini["supportedGenerationMethods"]
    assert words.get(kind, []) == ollama["capabilities"]


def test_the_endpoint_type_gemini_allows_chats(client, admin):
    """A model that Gemini's API serves has its methods, whatever its type."""
    admin.add("x", type="image", supported_endpoint_types=["openai", "gemini"])
    [gemini] = client.get("/v1beta/models").json["models"]

    assert ["generateContent", "countTokens"] == gemini["supportedGenerationMethods"]


def test_the_longest_prompt_is_never_derived(client, admin):
    """Without max_input_tokens no dialect has it, whatever the other lengths."""
    admin.add("x", context_length=400_000, max_output_tokens=128_000)
    anthropic = client.get("/v1/models/x", headers={"Anthropic-Version": "1"}).json

    assert "max_input_tokens" not in client.get("/v1/models/x").json
    assert (None, 128_000) == (anthropic["max_input_tokens"], anthropic["max_tokens"])
    assert "inputTokenLimit" not in client.get("/v1beta/models/x").json


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_contradiction_changes_nothing(admin, method):
    """A prompt longer than the context, whichever of both is sent, is a 422."""
    admin("PUT", "/admin/models/x", {"context_length": 5, "max_input_tokens": 5})
    given = {"PUT": {"context_length": 4, "max_input_tokens": 5}, "PATCH": {"max_model_len": 4}}
    before = admin("GET", "/admin/models/x").json
    answer = admin(method, "/admin/models/x", given[method])
    errors = answer.json["error"]["errors"]

    assert 422 == answer.status_code
    assert {"max_input_tokens": ["Must be at most context_length, which is 4, not 5."]} == errors
    assert before == admin("GET", "/admin/models/x").json


def test_a_patch_of_no_entry_contradicts_nothing(admin):
    """What a patch makes of an entry is checked once there is one; its shape is checked before."""
    for patch in ({"context_length": 4, "max_model_len": 5}, {"context_length": 4}):
        answer = admin("PATCH", "/admin/models/x", {**patch, "max_input_tokens": 5})

        assert 404 == answer.status_code
    assert 422 == admin("PATCH", "/admin/models/x", {"context_length": 0}).status_code


def test_the_context_comes_first(client, admin):
    """Some clients take the first length that they know, in the order of the reply."""
    admin.add("x", max_input_tokens=5, context_length=8, max_output_tokens=5)
    names = list(client.get("/v1/models/x").json)

    assert names.index("context_length") < names.index("max_input_tokens")
    assert names.index("max_input_tokens") < names.index("max_output_tokens")
    assert "max_tokens" not in names


@pytest.mark.parametrize(("mirror", "fact"), MIRRORS.items())
def test_a_name_has_the_limits_of_its_fact(mirror, fact):
    """Whatever a fact may be, each of its names in a body may be."""

    def field(path):
        name, _, member = path.partition(".")
        found = AdminModelSchema().fields[name]
        return found.schema.fields[member] if member else found

    one, other = field(mirror), field(fact)
    assert type(one) is type(other)
    for limit in ("least", "most", "inner", "validators"):
        assert (
            str(getattr(one, limit, None)).partition(" at ")[0]
            == (str(getattr(other, limit, None)).partition(" at ")[0])
        )


@pytest.mark.parametrize("dialect", NAMES)
def test_each_name_is_of_a_fact(dialect):
    """Each fact of the table is a field of an entry, or follows from some."""
    known = model(
        context_length=2,
        max_input_tokens=1,
        max_output_tokens=1,
        architecture={"input_modalities": ["text"], "output_modalities": ["text"]},
        supported_parameters=[],
    )

    assert [] == [fact for fact in NAMES[dialect].values() if reader(fact)(known) is None]
