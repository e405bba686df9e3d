"""The rows of a file, checked: which ids it has, and which fields of each are right."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.catalog.errors import InvalidValue, ValidationFailed, quote
from app.catalog.model import problem_with_id
from app.catalog.plan import Remark
from app.fields import got
from app.names import resolve_mirrors
from app.schemas import AdminModelSchema, check
from app.sources import Row, Source

_MODEL = AdminModelSchema()
#: Without one of these an entry would be shown to others, or earlier, than the file says.
_RESTRICTIONS = frozenset({"permission", "available_from"})


class Entry(NamedTuple):
    """What a file says of one entry."""

    place: int | str
    id: str
    #: Checked values by field name, without the id.
    fields: Mapping[str, Any]
    #: The source that a whole catalogue of ours has for the entry.
    source: str | None


@dataclass(slots=True)
class File:
    """The rows of a file."""

    entries: list[Entry] = field(default_factory=list)
    #: All ids that the file has, also those of rows that are refused.
    ids: set[str] = field(default_factory=set)
    skipped: list[Remark] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    degraded: list[Remark] = field(default_factory=list)


def read_rows(
    rows: Iterable[Row],
    source: Source,
    *,
    prefix: bool,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> File:
    """Return the `rows` of a file of `source`, each id once.

    With `prefix` an id is ``provider/id``; `InvalidValue` if rows have no provider. `progress` is
    given what takes the time, and returns it.
    """
    file = File()
    by_id: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        model_id = row.id
        if prefix and row.no_model is None:
            if row.provider is None:
                sentence = f"'prefix' must be left out: {source.name} has no provider of each row."
                raise InvalidValue("prefix", sentence)
            model_id = f"{row.provider}/{row.id}"
        if row.no_model is not None:
            file.skipped.append(Remark(quote(row.id), row.no_model, None, row.place))
        elif not isinstance(row.id, str):
            sentence = f"Must be a text, not {got(row.id)}."
            file.refused.append(Remark(quote(row.id), sentence, "id", row.place))
        elif problem := problem_with_id(model_id):
            file.refused.append(Remark(quote(model_id), problem, "id", row.place))
        else:
            by_id[model_id].append(row)
    file.ids |= by_id.keys()
    for model_id, same in progress([*by_id.items()]):
        if problem := _problem_with_several(same):
            file.refused += [Remark(model_id, problem, "id", row.place) for row in same]
            continue
        file.skipped += [
            Remark(model_id, f"Is the same as row {same[0].place}.", "id", row.place)
            for row in same[1:]
        ]
        file.entries.append(_entry(model_id, same[0], file.degraded))
    return file


def _problem_with_several(rows: Sequence[Row]) -> str | None:
    """Return why these rows of one id cannot be one entry, None if they can."""
    first = rows[0]
    if all(row.fields == first.fields and row.provider == first.provider for row in rows):
        return None
    providers = [row.provider for row in rows]
    if None in providers or len({*providers}) < len(rows):
        numbers = ", ".join(quote(row.place) for row in rows[:3])
        return f"Is there {len(rows)} times, and not the same: rows {numbers}."
    names = ", ".join(f"{quote(name)}" for name in providers[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""  # noqa: PLR2004
    return f"Is there for {len(rows)} providers, {names}{more}: with 'prefix' each is PROVIDER/ID."


def _entry(model_id: str, row: Row, degraded: list[Remark]) -> Entry:
    fields, wrong = check_each({name: v for name, v in row.fields.items() if v is not None})
    notes = {**row.notes, **wrong}
    if restrictions := _RESTRICTIONS & {name.partition(".")[0] for name in wrong}:
        fields["permission"] = []
        name = min(restrictions)
        notes[name] = (
            f"{notes.pop(name, 'Is wrong.')} So nobody sees the entry until you allow it."
        )
    degraded += [Remark(model_id, text, name, row.place) for name, text in notes.items()]
    aliases = [alias for alias in fields.pop("aliases", ()) if alias != model_id]
    if aliases:
        fields["aliases"] = aliases
    return Entry(row.place, model_id, fields, row.source)


def check_each(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return those of `fields` that are right, and by field what is wrong with the others."""
    left, wrong = {**fields}, dict[str, str]()
    while True:
        try:
            return resolve_mirrors(check(_MODEL, left), None), wrong
        except ValidationFailed as error:
            for path, sentences in error.errors.items():
                wrong[path] = sentences[0]
                _drop(left, path)


def _drop(fields: dict[str, Any], path: str) -> None:
    """Remove what an error names: a member of an object, a whole field, or an odd name."""
    name, _, member = path.partition(".")
    whole = fields.get(name)
    if isinstance(whole, dict) and member in whole:
        fields[name] = {n: value for n, value in whole.items() if n != member}
    elif name in fields:
        del fields[name]
    else:  # names are shortened in errors
        known = {n: value for n, value in fields.items() if n in _MODEL.load_fields}
        left = known if len(known) < len(fields) else {}
        fields.clear()
        fields |= left
