"""The names on the wire of what is known of an entry: one table for all dialects.

Clients read the same fact under different names; it is stored once. The names of an unknown
fact are left out of a reply, or null where the clients of a vendor want every name.
``docs/fields.md`` has this table with the clients that read each name.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

from marshmallow import fields

from app.catalog.errors import ValidationFailed
from app.catalog.model import Model
from app.fields import shown

#: By dialect, the names of facts, with the fact: an attribute of `Model`, or a member of one. A
#: dot leads into an object. In OpenAI's dialect each field of an entry has its own name besides.
NAMES: Mapping[str, Mapping[str, str]] = {
    "openai": {
        "max_model_len": "context_length",
        "context_window": "context_length",
        "meta.n_ctx": "context_length",
        "max_completion_tokens": "max_output_tokens",
        "input_modalities": "architecture.input_modalities",
        "output_modalities": "architecture.output_modalities",
        "capabilities": "capabilities",
    },
    "anthropic": {
        "max_input_tokens": "max_input_tokens",
        "max_tokens": "max_output_tokens",
    },
    "gemini": {
        "inputTokenLimit": "max_input_tokens",
        "outputTokenLimit": "max_output_tokens",
        "thinking": "capabilities.reasoning",
    },
    "ollama": {
        "details.context_length": "context_length",
        "model_info.library.context_length": "context_length",
        "capabilities.vision": "capabilities.vision",
        "capabilities.audio": "capabilities.audio_input",
        "capabilities.tools": "capabilities.tools",
        "capabilities.thinking": "capabilities.reasoning",
    },
}

#: The names of stored facts that a body may have instead of the fact's own, with the fact.
MIRRORS = {n: fact for n, fact in NAMES["openai"].items() if fact != "capabilities"}
#: The fields of a body in which the mirrors are.
MIRROR_FIELDS = frozenset(name.partition(".")[0] for name in MIRRORS)

_ABSENT = object()


@cache
def reader(fact: str) -> Callable[[Model], Any]:
    """Return a function that returns the value of a fact of an entry, None if it is unknown."""
    attribute, _, member = fact.partition(".")
    get = attrgetter(attribute)
    return (lambda model: (get(model) or {}).get(member)) if member else get


def members_of(model: Model, dialect: str, name: str) -> dict[str, Any]:
    """Return what is known of the members of the object that `dialect` calls `name`."""
    found = {member: read(model) for member, read in _readers_of_members(dialect, name)}
    return {member: value for member, value in found.items() if value is not None}


@cache
def _readers_of_members(dialect: str, name: str) -> list[tuple[str, Callable[[Model], Any]]]:
    prefix = f"{name}."
    names = NAMES[dialect].items()
    return [(n.removeprefix(prefix), reader(fact)) for n, fact in names if n.startswith(prefix)]


def named_fields(dialect: str) -> dict[str, fields.Field[Any]]:
    """Return a field for each name of `dialect`, for the schema of its items."""
    return {name: fields.Function(reader(fact)) for name, fact in NAMES[dialect].items()}


def resolve_mirrors(given: Mapping[str, Any], stored: Model | None) -> dict[str, Any]:
    """Return the fields of a body with the values of its mirrors under the names of the facts.

    A mirror sets a fact that the body does not have. One that has the new or the stored value is
    ignored, so that a body may be a reply in which the fact was changed. Raises
    `ValidationFailed` for any other.
    """
    resolved = {name: value for name, value in given.items() if name not in MIRROR_FIELDS}
    sent_by_fact: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, fact in MIRRORS.items():
        if (value := _get(given, name)) is not _ABSENT:
            sent_by_fact[fact][name] = value
    errors = {}
    for fact, sent in sent_by_fact.items():
        old = None if stored is None else reader(fact)(stored)
        source, new = fact, _get(given, fact)
        if new is _ABSENT:
            changed = (name for name, value in sent.items() if value != old)
            source = next(changed, next(iter(sent)))
            new = sent[source]
            _set(resolved, fact, new)
        for name, value in sent.items():
            if value not in (new, old):
                errors[name] = [f"Contradicts {source}, which is {shown(new)}: send one of them."]
    if errors:
        raise ValidationFailed(errors)
    return resolved


def _get(given: Mapping[str, Any], path: str) -> Any:
    name, _, member = path.partition(".")
    value = given.get(name, _ABSENT)
    return value.get(member, _ABSENT) if member and isinstance(value, dict) else value


def _set(given: dict[str, Any], path: str, value: Any) -> None:
    name, _, member = path.partition(".")
    given[name] = {**given.get(name, {}), member: value} if member else value
