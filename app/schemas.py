"""The shapes of an entry, a permission, a key and a source of imports.

Schemas check shape, field by field, and describe each mistake in a sentence; rules that need the
catalogue are elsewhere. `ModelSchema` is also the reference reply: its fields are in the order of
``docs/list-models.md``, the seven of the reference first.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, ClassVar

from marshmallow import Schema, ValidationError, fields, missing, pre_load, validate

from app.catalog.errors import ValidationFailed
from app.catalog.keys import READ, SCOPES
from app.catalog.lifecycle import problem_with_dates
from app.catalog.model import TYPES, Model
from app.catalog.sources import problem_with_source
from app.fields import (
    MAX_LIST,
    MAX_TEXT,
    Ids,
    OneOf,
    Pairs,
    Part,
    Prices,
    Seconds,
    StrictBoolean,
    StrictConstant,
    StrictInteger,
    StrictList,
    StrictNumber,
    Text,
    Texts,
    check_cutoff,
    check_date,
    check_id,
    check_moment,
    got,
    shown,
)
from app.names import NAMES, members_of, reader

#: The most aliases of an entry.
MAX_ALIASES = 16
#: The longest sentence about a failed import, in characters.
MAX_MESSAGE = 500
#: The most fields that one refusal names.
MAX_ERRORS = 20


class StrictSchema(Schema):
    """A schema whose refusals name the nearest field and quote no more than they should."""

    #: Fields of our own answers that may be given back, and are then ignored.
    read_only: ClassVar[frozenset[str]] = frozenset()
    #: The value of a field that is left out; a field that may be null is left out if `missing`.
    absent: ClassVar[Any] = missing

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dumped = [
            (name, self.reader(name), missing if field.allow_none else self.absent, _writer(field))
            for name, field in self.dump_fields.items()
        ]

    def reader(self, name: str) -> Callable[[Any], Any]:
        """Return a function that returns the value of a field of an object."""
        field = self.dump_fields[name]
        if isinstance(field, fields.Constant):
            return lambda _: field.constant
        return attrgetter(field.attribute or name)

    def _serialize(self, obj: Any, *, many: bool = False) -> Any:
        """Return what marshmallow returns, of an entry in a fifth of the time.

        marshmallow calls three functions for each field of each object, and most fields of most
        entries are unknown.
        """
        if many:
            return [self._serialize(one) for one in obj]
        return {
            name: value if write is None or value is None else write(value)
            for name, read, absent, write in self._dumped
            if (value := read(obj)) is not absent
        }

    @pre_load
    def _ignore_read_only(self, data: object, **_: object) -> object:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name not in self.read_only}

    def handle_error(self, error: ValidationError, data: object, **_: object) -> None:
        """Word marshmallow's errors about the object itself, and name the nearest fields."""
        messages = error.messages_dict
        if not isinstance(data, dict):
            error.messages = {"": [f"Must be an object, not {got(data)}."]}
            return
        unknown = (n for n, found in messages.items() if n not in self.load_fields and found)
        for name in [*islice(unknown, MAX_ERRORS)]:
            # The name that another vendor has for a fact may resemble the field of another fact.
            near = [names[name] for names in NAMES.values() if names.get(name) in self.load_fields]
            near = near or difflib.get_close_matches(name[:MAX_TEXT], self.load_fields, n=1)
            messages[name] = ["Unknown field" + (f"; is '{near[0]}' meant?" if near else ".")]
            whole, _dot, member = name.partition(".")
            if member and whole in self.load_fields:
                # To remove or set the whole instead would cost its other members.
                sentence = (
                    f"Unknown field: '{shown(member)}' is no field, but may be in '{whole}'."
                )
                messages[name] = [sentence]


def _writer(field: fields.Field[Any]) -> Callable[[Any], Any] | None:
    """Return what makes JSON of the value of `field`, None for a value that is JSON as it is."""
    if isinstance(field, fields.List) and isinstance(field.inner, fields.Nested):
        return partial(field.inner.schema.dump, many=True)
    return field.schema.dump if isinstance(field, fields.Nested) else None


class PermissionSchema(StrictSchema):
    """A permission, as in the reference; every field may be left out."""

    id = Text()
    object = StrictConstant("model_permission")
    created = Seconds()
    allow_create_engine = StrictBoolean()
    allow_sampling = StrictBoolean()
    allow_logprobs = StrictBoolean()
    allow_search_indices = StrictBoolean()
    allow_view = StrictBoolean()
    allow_fine_tuning = StrictBoolean()
    organization = Text()
    group = Text(allow_none=True)
    is_blocking = StrictBoolean()


class MappingSchema(StrictSchema):
    """A part of an entry that is a mapping in the domain."""

    def reader(self, name: str) -> Callable[[Any], Any]:
        """Return a function that returns a member of a mapping."""
        return lambda mapping: mapping.get(name, missing)


class ArchitectureSchema(MappingSchema):
    """What goes into a model and what comes out."""

    input_modalities = Texts()
    output_modalities = Texts()


class ReasoningSchema(MappingSchema):
    """How a model reasons: which efforts a request may ask for, and whether it can do without."""

    supported_efforts = Texts()
    default_effort = Text()
    mandatory = StrictBoolean()


class MetaSchema(MappingSchema):
    """The object in which clients of llama.cpp read the context length."""

    n_ctx = StrictInteger(least=1)


class ModelSchema(StrictSchema):
    """An entry as the public sees it: the reference's seven fields, then the optional ones.

    An optional field that is unknown is left out; only ``parent`` is ever null.
    """

    read_only = frozenset({"capabilities"})
    absent = None

    def reader(self, name: str) -> Callable[[Any], Any]:
        """Return a function that returns a field of an entry, or the fact of this name."""
        return _READERS.get(name) or super().reader(name)

    id = Text(validate=check_id)
    object = StrictConstant("model")
    created = Seconds()
    owned_by = Text()
    permission = StrictList(
        Part(PermissionSchema),
        validate=validate.Length(max=MAX_LIST, error=f"Must be at most {MAX_LIST} permissions."),
    )
    root = Text()
    parent = Text(allow_none=True)
    name = Text()
    description = Text(least=0, most=4096)
    aliases = Ids(most=MAX_ALIASES)
    type = Text(validate=OneOf(TYPES))
    tags = Texts()
    context_length = StrictInteger(least=1)
    max_model_len = StrictInteger(least=1)
    context_window = StrictInteger(least=1)
    meta = Part(MetaSchema)
    max_input_tokens = StrictInteger(least=1)
    max_output_tokens = StrictInteger(least=1)
    max_completion_tokens = StrictInteger(least=1)
    architecture = Part(ArchitectureSchema)
    input_modalities = Texts()
    output_modalities = Texts()
    supported_parameters = Texts()
    supported_endpoint_types = Texts()
    reasoning = Part(ReasoningSchema)
    capabilities = fields.Raw(dump_only=True)
    knowledge_cutoff = Text(
        wanted='a day, month or year like 2025-03-31, 2025-03 or "2025"', validate=check_cutoff
    )
    pricing = Prices(most=MAX_LIST)
    shutdown_date = Text(wanted="a date like 2027-01-31", validate=check_date)
    deprecation = Text(wanted="an RFC 3339 time like 2027-01-31T00:00:00Z", validate=check_moment)
    deprecation_replacement_model = Text(validate=check_id)
    metadata = Pairs(Text(least=0), most=16)
    work_name = Text(least=0)
    work_video_path = Text(least=0)
    wm_work_video_path = Text(least=0)
    no_wm_work_video_path = Text(least=0)
    work_webp_path = Text(least=0)
    web_work_status = StrictNumber()
    create_time = StrictNumber()


_READERS = {name: reader(fact) for name, fact in NAMES["openai"].items()}
_READERS["meta"] = lambda model: members_of(model, "openai", "meta") or None
#: The fields of the reference's item, in its order.
REFERENCE_FIELDS = ("id", "object", "created", "owned_by", "permission", "root", "parent")


class AdminModelSchema(ModelSchema):
    """An entry as administrators see it: with its date of appearance and its revision."""

    read_only = ModelSchema.read_only | {"source", "revision", "warnings"}

    list_aliases = StrictBoolean()
    available_from = Seconds()
    source = Text(dump_only=True)
    revision = fields.Integer(dump_only=True)


class KeySchema(StrictSchema):
    """A key as administrators see it `now`; the key itself and its digest are never in it."""

    def __init__(self, now: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.now = now

    def reader(self, name: str) -> Callable[[Any], Any]:
        """Return a function that returns a fact of a key; its state depends on the time."""
        return (lambda key: key.state(self.now)) if name == "state" else super().reader(name)

    id = Text(attribute="kid", dump_only=True)
    name = Text(
        required=True, error_messages={"required": "Missing: describe what the key is for."}
    )
    state = Text(dump_only=True)
    scopes = StrictList(
        Text(validate=OneOf(SCOPES)),
        load_default=lambda: [READ],
        validate=validate.Length(min=1, max=len(SCOPES), error="Must be one or two scopes."),
    )
    organization = Text(
        allow_none=True,
        load_default=None,
        validate=validate.NoneOf(["*"], error="Must name one organization; '*' is for entries."),
    )
    groups = Texts(load_default=list)
    created = Seconds(dump_only=True)
    expires_at = Seconds(allow_none=True, load_default=None)
    #: Of a rotated key: the end of its grace.
    retires_at = Seconds(dump_only=True)
    revoked_at = Seconds(dump_only=True)


class RotationSchema(StrictSchema):
    """How a key is replaced: `grace` is the seconds that the old one lives on."""

    # A day; at most 90 days.
    grace = StrictInteger(load_default=24 * 60 * 60, most=90 * 24 * 60 * 60, unit="seconds")


def _check_source(name: str) -> None:
    if problem := problem_with_source(name):
        raise ValidationError(problem)


class GoodRunSchema(StrictSchema):
    """A good import: when it was, its revision, and how many entries or fields it was about."""

    at = Seconds(required=True)
    revision = StrictInteger(required=True)
    added = StrictInteger()
    changed = StrictInteger()
    removed = StrictInteger()
    unchanged = StrictInteger()
    skipped = StrictInteger()
    refused = StrictInteger()
    kept = StrictInteger()


class FailedRunSchema(StrictSchema):
    """A failed import: when it was, and why it failed."""

    at = Seconds(required=True)
    message = Text(required=True, least=0, most=MAX_MESSAGE)


class SourceSchema(StrictSchema):
    """The last good and the last failed import from a source."""

    name = Text(required=True, validate=_check_source)
    format = Text(allow_none=True, most=64)
    last_good = Part(GoodRunSchema, allow_none=True)
    last_failed = Part(FailedRunSchema, allow_none=True)


def check(schema: StrictSchema, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked fields of `data`, or raise `ValidationFailed` with every mistake."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        flat = islice(_flatten(error.messages), MAX_ERRORS)
        raise ValidationFailed(dict(flat)) from None
    loaded.pop("object", None)
    for permission in loaded.get("permission", ()):
        permission.pop("object", None)
    return loaded


def check_together(fields: Mapping[str, Any], stored: Model | None = None) -> None:
    """Raise `ValidationFailed` for fields of an entry that contradict one another.

    `stored` is the entry before: its dates are not checked again.
    """
    errors = {}
    context, most = fields.get("context_length"), fields.get("max_input_tokens")
    if context is not None and most is not None and most > context:
        sentence = f"Must be at most context_length, which is {context}, not {most}."
        errors["max_input_tokens"] = [sentence]
    reasoning = fields.get("reasoning", {})
    efforts, default = reasoning.get("supported_efforts"), reasoning.get("default_effort")
    if efforts is not None and default is not None and default not in efforts:
        sentence = f"Must be one of supported_efforts, not '{shown(default)}'."
        errors["reasoning.default_effort"] = [sentence]
    dates = fields.get("available_from"), fields.get("shutdown_date")
    if None not in dates and (problem := problem_with_dates(*dates, stored)):
        errors["shutdown_date"] = [problem]
    if fields["id"] in fields.get("aliases", ()):
        errors["aliases"] = ["Must not contain the id of the entry itself."]
    if errors:
        raise ValidationFailed(errors)


def check_known(schema: StrictSchema, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked known fields of a stored document; see `check`."""
    return check(schema, _without_unknown(schema, document))


def check_patch(schema: StrictSchema, patch: Mapping[str, Any]) -> None:
    """Raise `ValidationFailed` for what is wrong with a merge patch, whatever it meets.

    Null removes an optional field; the reference's fields have no absence, but for ``parent``.
    """
    check(schema, _without_removals(schema, patch))


def _without_unknown(schema: Schema, data: Any) -> Any:
    if isinstance(data, list):
        return [_without_unknown(schema, item) for item in data]
    if not isinstance(data, dict):
        return data
    known = {}
    for name, field in schema.load_fields.items():
        if name in data:
            inner = field.inner if isinstance(field, fields.List) else field
            value = data[name]
            known[name] = (
                _without_unknown(inner.schema, value)
                if isinstance(inner, fields.Nested)
                else value
            )
    return known


def _without_removals(schema: Schema, patch: Mapping[str, Any]) -> dict[str, Any]:
    others = {}
    for name, value in patch.items():
        field = schema.load_fields.get(name)
        if isinstance(field, fields.Nested) and isinstance(value, dict):
            others[name] = _without_removals(field.schema, value)
        elif isinstance(field, fields.Dict) and isinstance(value, dict):
            others[name] = {inner: v for inner, v in value.items() if v is not None}
        elif value is not None or field is None or name in REFERENCE_FIELDS:
            others[name] = value
    return others


def _flatten(messages: object, path: str = "") -> Iterator[tuple[str, list[str]]]:
    if isinstance(messages, dict):
        for name, inner in messages.items():
            # An empty name of the caller's is shown as quotes; ours means the object itself.
            step = shown(str(name)) or ("''" if inner == ["Unknown field."] else "")
            yield from _flatten(inner, ".".join(filter(None, (path, step))))
    else:
        yield path, [str(sentence) for sentence in messages]  # type: ignore[attr-defined]
