"""The strict reading of JSON, and the writing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.errors import InvalidJson
from app.strict_json import MAX_DEPTH, dump, parse_object

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(st.dictionaries(st.text(), _values))
def test_round_trip(value: dict[str, Any]) -> None:
    """What is written is read back equal."""
    assert value == parse_object(dump(value).encode())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "The text is empty: it must be a JSON object."),
        (b"{", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":1.}', "not JSON"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":0x1}', "not JSON"),
        (b'{"a":1} // x', "The text is not JSON: Extra data at line 1 column 9."),
        (b"{}{}", "Extra data"),
        (b"{}\0", "Extra data"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark: save it as UTF-8 without one"),
        ("\ufeff{}".encode("utf-16-le"), "is UTF-16: save it as UTF-8"),
        (b'{"a":"\n"}', "The text is not JSON: Invalid control character at line 1 column 7."),
        (b'{"a":"b', "The text is not JSON: Unterminated string starting at line 1 column 6."),
        (b'{"a":"\\x"}', "not JSON"),
        (b'{"a":NaN}', "NaN is not JSON."),
        (b'{"a":[Infinity]}', "Infinity is not JSON."),
        (b'{"a":-Infinity}', "-Infinity is not JSON."),
        (b'{"a":1e999}', "The number 1e999 is too large."),
        (b'{"a":[-1.0e999]}', "The number -1.0e999 is too large."),
        (b'{"a":1,"b":2,"a":1}', "The key 'a' appears twice in one object."),
        (b'{"x":[{"b":1,"\\u0062":2}]}', "The key 'b' appears twice in one object."),
        (b'{"a":"\xff"}', "The text is not UTF-8, from byte 6 on: save it as UTF-8."),
        (b'{"a":"\xed\xa0\x80"}', "The text is not UTF-8, from byte 6 on: save it as UTF-8."),
        ('{"a":1}'.encode("utf-16"), "The text is UTF-16: save it as UTF-8."),
        (b"[]", "The text must be a JSON object, not an array."),
        (b'"a"', "The text must be a JSON object, not a string."),
        (b"null", "The text must be a JSON object, not null."),
        (b"1", "The text must be a JSON object, not a number."),
    ],
)
def test_refused(text: bytes, sentence: str) -> None:
    """Whatever is not one strict JSON object is refused by a sentence that says why."""
    with pytest.raises(InvalidJson) as refusal:
        parse_object(text)

    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
def test_64_bits(number: int) -> None:
    """Every integer of 64 bits is read exactly."""
    assert {"a": number} == parse_object(b'{"a":%d}' % number)


@pytest.mark.parametrize("digits", [str(2**63), str(-(2**63) - 1), "9" * 21, "1" + "0" * 100_000])
def test_beyond_64_bits(digits: str) -> None:
    """An integer beyond 64 bits is refused, however long, and cut in the message."""
    with pytest.raises(InvalidJson) as refusal:
        parse_object(f'{{"a":{digits}}}'.encode())

    shown = digits if len(digits) <= 60 else digits[:59] + "…"
    assert f"The integer {shown} is beyond 64 bits." == str(refusal.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b' \t\r\n{"a": 5.0}\n', {"a": 5.0}),
        (b'{"a":1e-999}', {"a": 0.0}),
        (b'{"a":-0}', {"a": 0}),
        (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'{"a":"\\u0000\\ud800"}', {"a": "\0\ud800"}),
        ('{"é":"\U0001f600"}'.encode(), {"é": "\U0001f600"}),
    ],
)
def test_read(text: bytes, value: dict[str, Any]) -> None:
    """Whatever JSON allows is read."""
    assert value == parse_object(text)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"a":' + opening * (depth - 1) + closing * (depth - 1) + b"}"


@pytest.mark.parametrize("inner", [(b"[", b"]"), (b'{"b":[', b"]}")])
def test_deepest(inner: tuple[bytes, bytes]) -> None:
    """Nesting of 32 levels is read."""
    assert 32 == MAX_DEPTH
    depth = 32 if inner[0] == b"[" else 16  # the second one nests twice at a time

    assert parse_object(nested(depth, *inner))


@pytest.mark.parametrize(
    "text",
    [
        nested(33),
        nested(100_000),
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 100_000,
        nested(17, b'{"b":[', b"]}"),
        b'{"x":[],"y":' + nested(32) + b"}",
    ],
    ids=["33", "100000", "open lists", "open objects", "mixed", "behind"],
)
def test_too_deep(text: bytes) -> None:
    """Deeper nesting is refused, however deep."""
    with pytest.raises(InvalidJson) as refusal:
        parse_object(text)

    assert "The text is nested deeper than 32 levels." == str(refusal.value)


def test_quoted_name() -> None:
    """A message repeats no more than 60 characters of the text, all printable."""
    name = "\\u001b" + "x" * 100
    with pytest.raises(InvalidJson) as refusal:
        parse_object(f'{{"{name}":1,"{name}":2}}'.encode())

    assert f"The key '\N{REPLACEMENT CHARACTER}{'x' * 58}…' appears twice in one object." == str(
        refusal.value
    )


def test_compact() -> None:
    """JSON is written compact, in the order of the keys, with text as it is."""
    assert '{"b":[1,null,true],"a":"é\U0001f600"}' == dump(
        {"b": [1, None, True], "a": "é\U0001f600"}
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_nan(number: float) -> None:
    """What JSON cannot hold is not written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(number)
