"""Strict fields for the schemas in ``app.schemas``.

marshmallow's own take "12" and 1.9 for integers, 1 for true, and NUL in a string. Each of these
is a 500 or a silent change further on; here it is a validation error.
"""

import re
from itertools import chain
from typing import Any

from marshmallow import ValidationError, fields, validate

from app.catalog.errors import quote
from app.catalog.lifecycle import read_moment
from app.catalog.model import problem_with_id

MAX_TEXT = 256
MAX_LIST = 100
#: Unix seconds up to the year 2106, as unsigned 32 bits hold them.
MAX_TIME = 2**32 - 1
MAX_TOKENS = 2**53 - 1  # the largest integer that JavaScript reads back unchanged

_SEPARATORS_AND_CONTROLS = r"\u2028-\u202e\u2066-\u2069"
#: Line separators, and the embeddings, overrides and isolates of bidirectional text. Earlier
#: programs took these in texts.
ONCE_TAKEN = re.compile(f"[{_SEPARATORS_AND_CONTROLS}]")
#: These, control characters and lone surrogates: they change the line around a text. Marks such as
#: U+200F, joiners and tags are taken: languages and emoji need them, and no other text changes.
UNWANTED = re.compile(rf"[\x00-\x1f\x7f-\x9f{_SEPARATORS_AND_CONTROLS}\ud800-\udfff]")
#: The prices that clients read; only these must be numbers.
PRICES = (
    "prompt",
    "completion",
    "request",
    "image",
    "input_cache_read",
    "input_cache_write",
    "web_search",
    "internal_reasoning",
)
_PRICE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_CUTOFF = re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def shown(value: object) -> str:
    """Return `value` as a message quotes it: with the name of its field 60 characters of input."""
    return quote(value, 30)


def got(value: object) -> str:
    """Return `value` as a message says what was got: a text as one, which "8192" is."""
    return f"the text '{shown(value)}'" if isinstance(value, str) else shown(value)


class OneOf(validate.OneOf):
    """One of some words."""

    def __call__(self, value: object) -> Any:
        """Raise unless `value` is one of them."""
        if value not in self.choices:
            words = ", ".join(map(str, self.choices))
            raise ValidationError(f"Must be one of: {words}; not {got(value)}.")
        return value


class _Strict(fields.Field[Any]):
    """A field that says what to do instead of null."""

    default_error_messages = {  # noqa: RUF012 - as in marshmallow's own fields
        "null": "Must not be null: leave the field out, or give it a value."
    }


class Text(_Strict):
    """A string of `least` to `most` characters, none of them `UNWANTED`.

    `wanted` is what to send instead of a value that is no string.
    """

    def __init__(
        self, *, least: int = 1, most: int = MAX_TEXT, wanted: str = "a string", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.least = least
        self.most = most
        self.wanted = wanted

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str):
            raise ValidationError(f"Must be {self.wanted}, not {shown(value)}.")
        if not self.least <= len(value) <= self.most:
            raise ValidationError(
                f"Must be {self.least} to {self.most} characters long, not {len(value)}."
            )
        if found := UNWANTED.search(value):
            raise ValidationError(
                f"Must not contain U+{ord(found[0]):04X}: control characters, line separators, "
                "bidirectional controls and lone surrogates are refused."
            )
        return value


class StrictInteger(_Strict):
    """An integer of `least` to `most`; 5.0 is one, as in JSON Schema; true and "5" are not.

    `unit` is for messages, where the name of the field does not have it.
    """

    def __init__(
        self, *, least: int = 0, most: int = MAX_TOKENS, unit: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.least = least
        self.most = most
        self.unit = unit

    def _deserialize(self, value: object, *_: object, **__: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            of_unit = self.unit and f" of {self.unit}"
            raise ValidationError(f"Must be a whole number{of_unit}, not {got(value)}.")
        if not self.least <= value <= self.most:
            raise ValidationError(
                f"Must be between {self.least} and {self.most}{self.unit and f' {self.unit}'}, "
                f"not {shown(value)}."
            )
        return value


class Seconds(StrictInteger):
    """A time in Unix seconds."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(most=MAX_TIME, unit="Unix seconds", **kwargs)

    def _deserialize(self, value: object, *_: object, **__: object) -> int:
        try:
            return super()._deserialize(value)
        except ValidationError as error:
            moment = read_moment(value) if isinstance(value, str) else None
            if moment is None:
                raise
            sentence = f"{str(error.messages[0]).removesuffix('.')}: that is {int(moment)}."
            raise ValidationError(sentence) from error


class StrictNumber(_Strict):
    """A number within what JavaScript reads back unchanged."""

    def _deserialize(self, value: object, *_: object, **__: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValidationError(f"Must be a number, not {got(value)}.")
        if not -MAX_TOKENS <= value <= MAX_TOKENS:
            raise ValidationError(
                f"Must be between -{MAX_TOKENS} and {MAX_TOKENS}, not {shown(value)}."
            )
        return value


class StrictBoolean(_Strict):
    """A boolean; 0, 1 and "true" are not."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"Must be true or false, not {got(value)}.")
        return value


class StrictConstant(_Strict, fields.Constant[str]):
    """A constant of our answers: may be left out, must be right when given back."""

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if value != self.constant:
            raise ValidationError(f"Must be '{self.constant}', not {got(value)}.")
        return self.constant


class StrictList(_Strict, fields.List[Any]):
    """A list."""

    def _deserialize(self, value: object, *args: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError(f"Must be a list, not {got(value)}.")
        return super()._deserialize(value, *args, **kwargs)


class Part(_Strict, fields.Nested):
    """An object with a schema of its own."""


class Texts(StrictList):
    """A list of strings."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            Text(),
            validate=validate.Length(max=MAX_LIST, error=f"Must be at most {MAX_LIST} strings."),
            **kwargs,
        )


class Ids(StrictList):
    """A list of ids of models, each once."""

    def __init__(self, *, most: int) -> None:
        super().__init__(
            Text(validate=check_id),
            validate=[
                validate.Length(max=most, error=f"Must be at most {most} ids."),
                _check_unique,
            ],
        )


class Pairs(_Strict, fields.Dict):
    """An object of any names, at most `most`; errors are by name, as everywhere."""

    def __init__(self, values: Text, *, most: int) -> None:
        super().__init__(
            keys=Text(most=64),
            values=values,
            validate=validate.Length(max=most, error=f"Must be at most {most} pairs."),
        )

    def _deserialize(self, value: object, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError(f"Must be an object, not {got(value)}.")
        try:
            pairs = super()._deserialize(value, *args, **kwargs)  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            by_name = {n: [*chain(*inner.values())] for n, inner in error.messages.items()}
            raise ValidationError(by_name) from None
        return pairs


class Prices(Pairs):
    """Prices by kind; those of `PRICES` are decimal strings, others are any text."""

    def __init__(self, *, most: int) -> None:
        super().__init__(Text(least=0, wanted='a string such as "0.0000025"'), most=most)

    def _deserialize(self, *args: Any, **kwargs: Any) -> Any:
        pairs = super()._deserialize(*args, **kwargs)
        wrong = [name for name in PRICES if not _PRICE.fullmatch(pairs.get(name, "0"))]
        if wrong:
            sentence = 'Must be a decimal string like "0.0000025", not {}.'
            raise ValidationError({name: [sentence.format(got(pairs[name]))] for name in wrong})
        return pairs


def check_id(value: str) -> None:
    """Raise what is wrong with the id of a model."""
    if problem := problem_with_id(value):
        raise ValidationError(problem)


def _check_unique(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ValidationError("Must have each id once.")


def check_date(value: str) -> None:
    """Raise unless `value` is a day of the calendar, such as 2027-01-31."""
    if not _DATE.fullmatch(value) or read_moment(value) is None:
        raise ValidationError(f"Must be a date like 2027-01-31, not '{shown(value)}'.")


def check_cutoff(value: str) -> None:
    """Raise unless `value` is a day, a month or a year, such as 2025-03-31, 2025-03 or 2025."""
    day = value + "0000-01-01"[len(value) :]
    if not _CUTOFF.fullmatch(value) or read_moment(day) is None:
        raise ValidationError(
            f"Must be a day, month or year like 2025-03-31, 2025-03 or 2025, not '{shown(value)}'."
        )


def check_moment(value: str) -> None:
    """Raise unless `value` is a moment as RFC 3339 writes them."""
    if "T" not in value.upper() or read_moment(value) is None:
        raise ValidationError(
            f"Must be an RFC 3339 time like 2027-01-31T00:00:00Z, not '{shown(value)}'."
        )
