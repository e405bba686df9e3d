"""What an entry is when fields are left out or it replaces another one, and which ids it has."""

import re
import string
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from app.catalog.model import BASE62, Model, Permission, new, problem_with_id, random_base62


def ids(model: Model) -> list[str]:
    return [permission.id for permission in model.permission]


def test_defaults() -> None:
    """An entry of nothing but an id has the reference's values."""
    model = Model.compose({"id": "x"}, now=5)

    [permission] = model.permission
    assert re.fullmatch(r"modelperm-[0-9A-Za-z]{24}", permission.id)
    assert Model(id="x", created=5, owned_by="custom", permission=(permission,), root="x") == model
    assert (
        Permission(
            id=permission.id,
            created=5,
            allow_create_engine=True,
            allow_sampling=True,
            allow_logprobs=True,
            allow_search_indices=False,
            allow_view=True,
            allow_fine_tuning=False,
            organization="*",
            group=None,
            is_blocking=False,
        )
        == permission
    )
    assert model.parent is None


def test_given() -> None:
    """What is given is taken, permission ids too."""
    fields = {"id": "x", "created": 0, "owned_by": "acme", "root": "y", "parent": "z", "name": "X"}
    given = {"id": "modelperm-A", "created": 1, "group": "red"}

    model = Model.compose({**fields, "permission": [given]}, now=5)

    assert fields == {name: getattr(model, name) for name in fields}
    assert (Permission(id="modelperm-A", created=1, group="red"),) == model.permission


def test_hidden() -> None:
    """An empty list of permissions stays empty."""
    assert () == Model.compose({"id": "x", "permission": []}, now=5).permission


def test_created_of_permission() -> None:
    """A permission is as old as its entry, unless it says otherwise."""
    model = Model.compose({"id": "x", "created": 3, "permission": [{}, {"created": 4}]}, now=5)

    assert [3, 4] == [permission.created for permission in model.permission]


def test_replaced() -> None:
    """A replacement keeps the date of the entry, and none of its other fields."""
    stored = Model.compose({"id": "x", "owned_by": "acme", "name": "X", "parent": "y"}, now=5)

    model = Model.compose({"id": "x"}, now=9, stored=stored)

    assert Model.compose({"id": "x", "permission": [{"id": ids(stored)[0]}]}, now=5) == model


def test_new_date() -> None:
    """A replacement may bring a date of its own, and its permissions are then as old."""
    stored = Model.compose({"id": "x"}, now=5)

    model = Model.compose({"id": "x", "created": 7}, now=9, stored=stored)

    assert (7, 7) == (model.created, model.permission[0].created)
    assert ids(stored) != ids(model)


@pytest.mark.parametrize(
    "permission",
    [
        [],
        [{}],
        [{}, {}],
        [{"group": "red"}, {}, {"group": "blue", "is_blocking": True}],
        [{"id": "modelperm-A"}, {"id": "modelperm-B", "group": "red"}],
        [{}, {"id": "modelperm-A"}],
        [{"id": "modelperm-A"}, {}],
    ],
)
def test_twice(permission: list[dict[str, Any]]) -> None:
    """The same replacement twice changes nothing."""
    fields = {"id": "x", "permission": permission}
    stored = Model.compose(fields, now=5)

    again = Model.compose(fields, now=9, stored=stored)

    assert stored == again


def test_unique_ids() -> None:
    """A permission never takes over the id that another one of the same entry was given."""
    stored = Model.compose({"id": "x", "permission": [{"id": "modelperm-A"}]}, now=5)

    for permission in ([{"id": "modelperm-A"}, {}], [{}, {"id": "modelperm-A"}], [{}, {}]):
        model = Model.compose({"id": "x", "permission": permission}, now=5, stored=stored)
        assert 2 == len(set(ids(model)))


def test_other_order() -> None:
    """A permission keeps its id wherever it is in the list, and a changed one gets a fresh id."""
    red, blue, green = {"group": "red"}, {"group": "blue"}, {"group": "green"}
    stored = Model.compose({"id": "x", "permission": [red, blue]}, now=5)

    model = Model.compose({"id": "x", "permission": [blue, green]}, now=9, stored=stored)

    assert ids(stored)[1] == ids(model)[0]
    assert ids(model)[1] not in ids(stored)


def test_equal_whatever_revision() -> None:
    """Two states of an entry are equal whatever their revision."""
    model = Model.compose({"id": "x"}, now=5)

    assert model == replace(model, revision=7)
    assert model != replace(model, name="X")


def test_new() -> None:
    """What is made in less time is the same in every field, and as frozen."""
    known = {
        "id": "x",
        "created": 5,
        "owned_by": "o",
        "root": "x",
        "aliases": ["y"],
        "revision": 3,
    }
    permission = new(Permission, {"id": "p", "created": 5, "group": "g"})
    made = new(Model, {**known, "permission": (permission,)})
    usual = Model(**known, permission=(Permission(id="p", created=5, group="g"),))

    assert (Model, Permission) == (type(made), type(permission))
    assert usual == made
    assert made.identity not in (usual.identity, new(Model, {**known, "permission": ()}).identity)
    for one in fields(Model):
        if one.name != "identity":
            assert getattr(usual, one.name) == getattr(made, one.name), one.name
    with pytest.raises(FrozenInstanceError):
        made.id = "y"
    with pytest.raises(TypeError, match=r"^Model\.__init__\(\) missing "):
        new(Model, {"id": "x"})


def test_base62() -> None:
    """The alphabet is that of the contract, and random text uses all of it."""
    assert string.digits + string.ascii_uppercase + string.ascii_lowercase == BASE62
    assert set(BASE62) == set(random_base62(10_000))


@pytest.mark.parametrize("length", [0, 1, 32])
def test_random_length(length: int) -> None:
    """Random text has the length asked for."""
    assert length == len(random_base62(length))


def test_random_differs() -> None:
    """Two random texts differ."""
    assert random_base62(32) != random_base62(32)


@pytest.mark.parametrize(
    "model_id",
    [
        "x",
        "x" * 256,
        "gpt-4o (2024-08-06)",
        "meta/llama-3:8b@latest~1",
        "a/.b/c..d",
        "models",
        "my/models/x",
        "~!$&'()*+,;=\"<>[]^_`{|}",
    ],
)
def test_good_id(model_id: str) -> None:
    """Real ids hold spaces, brackets, at signs, tildes, colons and slashes."""
    assert problem_with_id(model_id) is None


@pytest.mark.parametrize(
    ("sentence", "model_ids"),
    [
        (
            "Must be 1 to 256 printable ASCII characters, with no space at either end.",
            [
                "",
                " ",
                " a",
                "a ",
                "x" * 257,
                "a\n",
                "a\0b",
                "\x7f",
                "a\u2028b",
                "\ud800",
                "a\u202eb",
            ],
        ),
        (
            "Must not contain any of ? # % \\: not every client could fetch it.",
            ["?", "a?b", "a#b", "a%41", "a\\b"],
        ),
        (
            "Must have ASCII characters alone, not 'é': 'name' takes all letters.",
            ["é", "modéle-ü", "é" * 300, "/é", "é?"],
        ),
        (
            "Must have ASCII characters alone, not '模': 'name' takes all letters.",
            ["模型", "a\t模é"],
        ),
        (
            "Must not begin with a slash: leave it out, and write a path for people in 'name'.",
            ["/", "/a", "//", "/models/x", "/data/models/llama-3"],
        ),
        (
            "Must not have an empty, '.' or '..' segment between slashes.",
            ["a/", "a//b", ".", "..", "a/../b", "a/./b", "a/..", "./a", "models/"],
        ),
        (
            "Must not begin with 'models/': Gemini clients add and strip that prefix.",
            ["models/x", "models/models/x"],
        ),
    ],
)
def test_bad_id(sentence: str, model_ids: list[str]) -> None:
    """An id that some client could not fetch is refused by the sentence that says why."""
    assert {sentence} == {problem_with_id(model_id) for model_id in model_ids}
