"""Strict JSON: text to values and back.

Python's own reader takes NaN, 1e999, duplicate keys and integers of any size, and runs out of
stack on deep nesting; each of these is a 500 or a silent loss further on.
"""

import codecs
import json
import math
from collections import Counter
from typing import Any, NoReturn

from app.catalog.errors import InvalidJson, quote

#: The deepest nesting of arrays and objects that is read.
MAX_DEPTH = 32
#: The values that are no object, as messages name them.
_KINDS = {
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}
_INT64 = range(-(2**63), 2**63)


def parse_object(text: bytes) -> dict[str, Any]:
    """Return the one JSON object that `text` is; `InvalidJson` for anything else."""
    if not text.strip():
        raise InvalidJson("The text is empty: it must be a JSON object.")
    value = parse(text)
    if not isinstance(value, dict):
        kind = _KINDS[type(value)]
        raise InvalidJson(f"The text must be a JSON object, not {kind}.")
    return value


def parse(text: bytes) -> Any:
    """Return the one JSON value (RFC 8259) that `text` is.

    Raises `InvalidJson` for anything else: other bytes than UTF-8, trailing text, duplicate
    keys, numbers that JSON or 64 bits do not have, nesting beyond `MAX_DEPTH`.
    """
    try:
        value = _decoder.decode(decode(text))
    except json.JSONDecodeError as error:
        if text.startswith(codecs.BOM_UTF8):
            raise InvalidJson(
                "The text begins with a byte order mark: save it as UTF-8 without one."
            ) from None
        what = error.msg.removesuffix(" at")  # "Unterminated string starting at" has its own
        raise InvalidJson(
            f"The text is not JSON: {what} at line {error.lineno} column {error.colno}."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def decode(text: bytes) -> str:
    """Return the text that is UTF-8; `InvalidJson` for other bytes."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InvalidJson("The text is UTF-16: save it as UTF-8.") from None
        raise InvalidJson(
            f"The text is not UTF-8, from byte {error.start} on: save it as UTF-8."
        ) from None


def dump(value: object) -> str:
    """Return `value` as compact JSON, keys in their own order, text unescaped."""
    return _encoder.encode(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidJson(f"The key '{quote(name)}' appears twice in one object.")
    return result


def _integer(digits: str) -> int:
    # 20 characters hold every 64-bit integer; int() of a million digits takes minutes.
    value = int(digits) if len(digits) <= 20 else None  # noqa: PLR2004
    if value is None or value not in _INT64:
        raise InvalidJson(f"The integer {quote(digits)} is beyond 64 bits.")
    return value


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InvalidJson(f"The number {quote(digits)} is too large.")
    return value


def _refuse(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not JSON.")


def _too_deep() -> InvalidJson:
    return InvalidJson(f"The text is nested deeper than {MAX_DEPTH} levels.")


def _check_depth(value: object) -> None:
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_refuse,
)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
