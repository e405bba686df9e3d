"""What is typed of an entry, FIELD=VALUE and --unset FIELD, as the fields of a body.

A member of an object is FIELD.MEMBER. VALUE is text for a text and JSON for any other field, and
``null`` is null. A time may be written in each way that `read_moment` takes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

import click
from marshmallow import fields as ma

from app.catalog.errors import InvalidJson, ValidationFailed
from app.catalog.lifecycle import read_moment
from app.cli.terminal import command_line, in_utc
from app.fields import Pairs, Part, Text, got
from app.names import MIRRORS
from app.schemas import REFERENCE_FIELDS, AdminModelSchema
from app.strict_json import parse, parse_object

_FIELDS = AdminModelSchema().fields
_DAY = 24 * 60 * 60  # seconds


def read_fields(
    file: BinaryIO | None, assignments: Iterable[str], unset: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the fields of the JSON in `file`, with the assignments, and null for `unset` ones.

    Of several values of a field the last one counts.
    """
    given: dict[str, Any] = {} if file is None else parse_object(file.read())
    typed = [_assignment(text) for text in assignments]
    typed += [(name, None) for name in unset]
    for name, _ in typed:
        # What `show` has printed has the old value under the other names, too.
        for mirror in [m for m, fact in MIRRORS.items() if name in (fact, fact.partition(".")[0])]:
            given.pop(mirror.partition(".")[0], None)
    for name, value in typed:
        whole, member = _split(name)
        if not member:
            given[whole] = value
            continue
        inner = given.get(whole)
        given[whole] = {**(inner if isinstance(inner, dict) else {}), member: value}
    return given


def read_patch(
    model_id: str | None, file: BinaryIO | None, assignments: Iterable[str], unset: Iterable[str]
) -> dict[str, Any]:
    """Return the merge patch for this entry, for several if there is no one id."""
    patch = read_fields(file, assignments, unset)
    new_id = patch.get("id")
    if model_id is not None and isinstance(new_id, str) and new_id != model_id:
        command = command_line("models", "copy", model_id, new_id)
        raise ValidationFailed(
            {"id": [f"Cannot change. '{command}' makes another entry like it."]}
        )
    for name in unset:
        if name in REFERENCE_FIELDS and name != "parent":
            sentence = "Cannot be unset, because every entry has it: set another value."
            if name == "permission":
                sentence += " 'flask models hide ID' shows the entry to nobody."
            raise ValidationFailed({name: [sentence]})
    return patch


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"'{text}' is not of the form FIELD=VALUE.")
    if value == "null":
        return name, None
    if name in _TIMES:
        return name, _time(name, value)
    whole, member = _split(name)
    field = _FIELDS.get(whole)
    if member:
        field = field.schema.fields.get(member) if isinstance(field, Part) else Text()
    # An unknown field is refused by its name, whatever its value.
    if field is None or isinstance(field, Text):
        return name, value
    try:
        return name, parse(value.encode())
    except InvalidJson as error:
        raise _refusal(name, 'JSON, such as 8192 or ["text"]', value) from error


def _split(name: str) -> tuple[str, str]:
    """Return the field and, where it is an object, its member."""
    whole, _, member = name.partition(".")
    field: ma.Field[Any] | None = _FIELDS.get(whole)
    return (whole, member) if isinstance(field, Part | Pairs) else (name, "")


def _time(name: str, text: str) -> object:
    moment = read_moment(text)
    if moment is not None:
        is_written_so = name == "deprecation" and "T" in text.upper()
        return text if is_written_so else _TIMES[name](moment)
    if re.fullmatch(r"-?\d+", text, re.ASCII) and not isinstance(_FIELDS[name], Text):
        return parse(text.encode())  # the schema knows which numbers are none
    raise _refusal(name, "a date like 2027-01-31, an RFC 3339 time or Unix seconds", text)


def _refusal(name: str, wanted: str, text: str) -> ValidationFailed:
    text.encode()  # raises UnicodeEncodeError for what no message can show
    return ValidationFailed({name: [f"Must be {wanted}, not {got(text)}."]})


def _last_day(moment: float) -> str:
    """Return the day that begins at `moment`."""
    if moment % _DAY:
        sentence = (
            f"Must be a date or 00:00 UTC of one, when the model retires, not {in_utc(moment)}."
        )
        raise ValidationFailed({"shutdown_date": [sentence]})
    return in_utc(moment).partition("T")[0]


#: What makes the value of a field of a moment (Unix seconds).
_TIMES: Mapping[str, Callable[[float], object]] = {
    "created": int,
    "available_from": int,
    "deprecation": in_utc,
    "shutdown_date": _last_day,
}
