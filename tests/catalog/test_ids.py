"""Identifiers of models, and random ones."""

import string

import pytest

from app.catalog.ids import BASE62, problem_with_id, random_base62


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
            ["", " ", " a", "a ", "x" * 257, "a\n", "a\0b", "\x7f", "é", "a\u2028b", "\ud800"],
        ),
        (
            "Must not contain any of ? # % \\: not every client could fetch it.",
            ["?", "a?b", "a#b", "a%41", "a\\b"],
        ),
        (
            "Must not have an empty, '.' or '..' segment between slashes.",
            ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a/..", "./a", "models/"],
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
