"""What several formats need: members by name, lists, prices as text, and words for types."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Context, Decimal, InvalidOperation
from itertools import islice
from typing import Any

from app.fields import Part, got
from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema
from app.sources import Content

#: So many rows are read to recognise a format.
FEW = 5
#: What others call a type of ours.
_TYPES = {
    "chat": "language",
    "completion": "language",
    "responses": "language",
    "image_generation": "image",
    "image_edit": "image",
    "video_generation": "video",
    "audio_speech": "speech",
    "audio_transcription": "transcription",
    "reranking": "rerank",
}
#: Of these, 0 means that the number is unknown.
_LIMITS = ("context_length", "max_input_tokens", "max_output_tokens")
#: The note of a file with other prices for long prompts, large images or other cases.
VARYING = "Prices that vary are left out: a price here is one number."
_ELSEWHERE = MIRROR_FIELDS | {"id", "object", "pricing", "permission"}
#: The fields of an entry, and the members of those that are objects, for `renamed`.
OURS = [
    (path, path)
    for name, field in AdminModelSchema().load_fields.items()
    if name not in _ELSEWHERE
    for path in (
        [f"{name}.{part}" for part in field.schema.fields] if isinstance(field, Part) else [name]
    )
]
_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
#: As in ``app.fields``: 20 digits at most on either side.
_PLAIN = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_exact = Context(prec=90)


def items_of(content: Content, member: str = "data") -> list[Any] | None:
    """Return the items of a list: of JSON, of a member of its object, or of NDJSON."""
    value = content.value
    if content.kind == "json" and isinstance(value, dict):
        value = value.get(member)
    return value if content.kind in ("json", "ndjson") and isinstance(value, list) else None


def numbered(items: Iterable[Any] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each item with its number; one that is no object has no members, and so no id."""
    for number, item in enumerate(items or (), 1):
        yield number, item if isinstance(item, dict) else {}


def any_of(items: Iterable[Any] | None, test: Callable[[dict[str, Any]], object]) -> bool:
    """Return whether one of the first `items` is an object that passes `test`."""
    return any(isinstance(item, dict) and test(item) for item in islice(items or (), FEW))


def member(value: Any, path: str) -> Any:
    """Return a member of an object, None if there is none; a dot leads into an object."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def renamed(item: Any, names: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the known fields of `item`: `names` has ours with theirs, the best of ours first."""
    fields: dict[str, Any] = {}
    for ours, theirs in names:
        value = member(item, theirs)
        if value is None or (ours in _LIMITS and value == 0):
            continue
        if ours == "type" and isinstance(value, str):
            value = _TYPES.get(value, value)
        whole, _, part = ours.partition(".")
        fields[whole] = (
            {part: value, **fields.get(whole, {})} if part else fields.get(whole, value)
        )
    return fields


def flagged(item: Mapping[str, Any], flags: Mapping[str, str]) -> list[str] | None:
    """Return the words of the flags that are true, None if nothing is known of any."""
    known = {word: item[flag] for flag, word in flags.items() if isinstance(item.get(flag), bool)}
    return [word for word, is_set in known.items() if is_set] if known else None


def prices(
    given: object, names: Mapping[str, str], notes: dict[str, str], power: int | None = 0
) -> dict[str, str]:
    """Return prices as decimal text for one token, under our names; note what is none.

    A number of the file is a price for 10 to the `power` tokens; None means that its unit is
    unknown, and that only text is a price.
    """
    if not isinstance(given, dict):
        notes["pricing"] = f"Must be an object of prices, not {got(given)}."
        return {}
    found = {}
    for theirs, value in given.items():
        ours = names.get(theirs, theirs)
        if isinstance(value, list | dict):
            notes["pricing"] = VARYING
        elif (price := _price(value, power)) is not None:
            found[ours] = price
        elif value is not None:
            wanted = "text, because a number has no unit here" if power is None else "from 0 on"
            notes[f"pricing.{ours}"] = (
                f"Must be a price for one token, {wanted}; not {got(value)}."
            )
    return found


def _price(value: object, power: int | None) -> str | None:
    text = str(value) if isinstance(value, int | float | str) else ""
    is_text = isinstance(value, str)
    if not _NUMBER.fullmatch(text) or (power is None and not is_text):
        return None
    if is_text and not power and _PLAIN.fullmatch(text):
        return text
    try:
        number = _exact.scaleb(Decimal(text), -(power or 0))
        text = format(_exact.normalize(_exact.quantize(number, Decimal("1e-20"))), "f")
    except InvalidOperation:
        return None
    return text if _PLAIN.fullmatch(text) else None
