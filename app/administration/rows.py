"""The rows of a file, checked: which ids it has, and which fields of each are right."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.catalog.errors import InvalidValue, ValidationFailed, quote
from app.catalog.model import problem_with_id
from app.catalog.plan import Remark
from app.catalog.sources import problem_with_source
from app.fields import got
from app.names import resolve_mirrors
from app.schemas import MAX_ERRORS, AdminModelSchema, check
from app.sources import Row, Source

_MODEL = AdminModelSchema()
#: The most mistakes of a file that are read: a real one has far fewer, and each takes memory.
MAX_MISTAKES = 200_000
#: The most rows of a file. One may be a short line, and takes 2 KB of memory as an entry.
MAX_ROWS = 500_000
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
    #: The names of the fields that the row has, with a value that is left out.
    wrong: Set[str]


@dataclass(slots=True)
class File:
    """The rows of a file."""

    entries: list[Entry] = field(default_factory=list)
    #: All ids that the file has, also those of rows that are refused.
    ids: set[str] = field(default_factory=set)
    skipped: list[Remark] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    degraded: list[Remark] = field(default_factory=list)

    @property
    def names(self) -> Set[str]:
        """Return the ids, and what the rows name: their aliases and replacements."""
        aliases = (alias for e in self.entries for alias in e.fields.get("aliases", ()))
        replacements = (e.fields.get("deprecation_replacement_model", e.id) for e in self.entries)
        return self.ids.union(aliases, replacements)


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
    for number, row in enumerate(rows, 1):
        if number > MAX_ROWS:
            raise InvalidValue("format", f"The file has more than {MAX_ROWS:,} rows: split it.")
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
            Remark(model_id, f"Is the same as row {quote(same[0].place)}.", "id", row.place)
            for row in same[1:]
        ]
        file.entries.append(_entry(model_id, same[0], file.degraded))
        if len(file.degraded) > MAX_MISTAKES:
            last = file.degraded[-1]
            raise InvalidValue(
                "format",
                f"The file has more than {MAX_MISTAKES:,} mistakes, such as {last.field} of "
                f"'{last.id}': {last.message} Is it of the format {source.name}?",
            )
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
    # No permissions are not the same as unknown ones, which would show a new entry to all.
    given = {n: v for n, v in row.fields.items() if v is not None or n == "permission"}
    fields, wrong = check_each(given)
    notes = {**row.notes, **wrong}
    if restrictions := _RESTRICTIONS & {name.partition(".")[0] for name in wrong}:
        fields["permission"] = []
        name = min(restrictions)
        notes[name] = (
            f"{notes.pop(name, 'Is wrong.')} So nobody sees the entry until you allow it."
        )
    source = row.source
    if source is not None and (problem := problem_with_source(source)):
        notes["source"], source = problem, None
    degraded += [
        Remark(model_id, text, quote(name) or None, row.place) for name, text in notes.items()
    ]
    if model_id in fields.get("aliases", ()):
        fields["aliases"] = [alias for alias in fields["aliases"] if alias != model_id]
    # An object without members is unknown: no reason to remove what somebody else has set.
    known = {name: value for name, value in fields.items() if value != {}}
    names = {name.partition(".")[0] for name in notes}
    return Entry(row.place, model_id, known, source, names)


def check_each(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return those of `fields` that are right, and by field what is wrong with the others.

    A check names only the first mistakes. So of an object that still has mistakes without the
    named members nothing is left, and of many unknown fields the first are named.
    """
    left = {name: value for name, value in fields.items() if name in _MODEL.load_fields}
    unknown = [n for n in fields if n not in left and n not in _MODEL.read_only]
    wrong = dict[str, str]()
    if unknown:
        try:
            check(_MODEL, dict.fromkeys(unknown[:MAX_ERRORS]))
        except ValidationFailed as error:
            wrong = _first_sentences(error)
    if more := unknown[MAX_ERRORS:]:
        wrong[""] = f"{len(more)} more fields are unknown."
    reduced = set[str]()
    while True:
        try:
            return resolve_mirrors(check(_MODEL, left), None), wrong
        except ValidationFailed as error:
            named = _first_sentences(error)
        wrong |= named
        for path in named:
            name, _, member = path.partition(".")
            whole = left.get(name)
            if isinstance(whole, dict) and member in whole and name not in reduced:
                left[name] = {n: value for n, value in whole.items() if n != member}
            else:
                left.pop(name, None)
        reduced |= {path.partition(".")[0] for path in named}


def _first_sentences(error: ValidationFailed) -> dict[str, str]:
    return {path: sentences[0] for path, sentences in error.errors.items()}
