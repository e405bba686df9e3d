"""How the import of a file is planned: what each entry becomes, and what a person has changed."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from app.administration.rows import Entry, File
from app.catalog.errors import InvalidValue, ValidationFailed
from app.catalog.lifecycle import deprecation_before, read_moment, shutdown_time
from app.catalog.model import Model
from app.catalog.plan import Plan, Preserved, Remark, settle
from app.catalog.ports import Change, Writer
from app.catalog.snapshot import Snapshot
from app.schemas import check_together

#: The fields that an entry may lack.
_OPTIONAL = [
    f.name for f in fields(Model) if f.compare and f.default is None and f.name != "source"
]
#: The fields that are checked together.
_TOGETHER = ("id", "context_length", "max_input_tokens", "reasoning", "aliases")
#: How many entries have their lines of the log in memory at a time.
_BATCH = 500

_Item = TypeVar("_Item")

#: What is done with a row whose id exists already, with other fields.
ON_CONFLICT = ("fail", "skip", "update")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a file is imported."""

    format: str = "auto"
    #: The name of the source, which new entries remember; None is the name of the format.
    source: str | None = None
    #: One of `ON_CONFLICT`.
    on_conflict: str = "fail"
    #: Whether the id is ``provider/id``.
    prefix: bool = False
    #: What all rows get, as a body of an entry has it.
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: Whether nobody sees new entries; the permissions of others stay as they are.
    hidden: bool = False
    #: Whether entries of the source that the file lacks are removed.
    prune: bool = False
    #: The day on which they retire, instead; None is no such day.
    retire: str | None = None
    #: Whether fields that a person has changed are changed, too.
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Plans the import of one file."""

    store: Writer
    file: File
    options: ImportOptions
    #: The source.
    name: str
    #: Unix seconds.
    now: int
    #: See `app.sources.Source`.
    is_complete: bool

    def plan(self, snapshot: Snapshot) -> Plan:
        """Return the plan for the entries of `snapshot`."""
        file = self.file
        plan = Plan(
            position=snapshot.position,
            asked=file.names,
            source=self.name,
            skipped=[*file.skipped],
            refused=[*file.refused],
            degraded=[*file.degraded],
        )
        changes = [*self._present(snapshot, plan), *self._missing(snapshot, plan)]
        # An export that is put back must not lack an entry without anybody's knowing.
        skip_taken = self.options.on_conflict != "fail" and not self.is_complete
        settle(plan, changes, snapshot, strict=False, skip_taken=skip_taken)
        return plan

    def _present(self, snapshot: Snapshot, plan: Plan) -> Iterator[Change]:
        """Yield the changes of the entries that the file has."""
        stored = {model.id: model for model in snapshot.models}
        differing: list[tuple[Entry, Change, list[str]]] = []
        for entry in self.file.entries:
            before = stored.get(entry.id)
            after = self._composed(entry, before)
            # Fields that the entry has and the row lacks: the source may have had them before.
            gone = [] if before is None or self.is_complete else self._gone(entry, before)
            if after != before or gone:
                differing.append((entry, Change(before, after), gone))
            else:
                plan.unchanged += 1
        for batch in _batches(differing):
            yield from self._allowed(batch, plan)

    def _composed(self, entry: Entry, before: Model | None) -> Model:
        """Return the entry as the file has it."""
        source = entry.source if self.is_complete else self.name
        fields = {**entry.fields, **self.options.fields, "id": entry.id, "source": source}
        if before is None or self.is_complete:
            after = Model.compose(fields, now=self.now, stored=before)
        else:
            # Some programs answer the time of the request; who has brought an entry stays so.
            changed = {n: v for n, v in fields.items() if n not in ("created", "source")}
            after = before.updated(changed)
        if self.options.hidden:
            return replace(after, permission=() if before is None else before.permission)
        return after

    def _gone(self, entry: Entry, before: Model) -> list[str]:
        given = {*entry.fields, *self.options.fields, *entry.wrong}
        return [n for n in _OPTIONAL if n not in given and getattr(before, n) is not None]

    def _allowed(
        self, differing: Sequence[tuple[Entry, Change, Sequence[str]]], plan: Plan
    ) -> Iterator[Change]:
        """Yield the changes, without those of fields that a person has changed."""
        setters = self.store.log.setters([e.id for e, _, _ in differing], self.name)
        for entry, (before, given), gone in differing:
            assert given is not None, "a row never removes"  # noqa: S101
            held, own, is_removed, _ = setters[entry.id]
            if before is None and is_removed and not self.options.force:
                sentence = "A person has removed it; 'force' adds it again."
                plan.skipped.append(Remark(entry.id, sentence, None, entry.place))
                continue
            fields: dict[str, Any] = {name: None for name in gone if name in own}
            fields |= self._preserved(Change(before, given), held, plan)
            after = _consistent(replace(given, **fields), before, entry.place, plan)
            if after == before:
                plan.unchanged += 1
            elif before is None or self.options.on_conflict == "update":
                yield Change(before, after)
            else:
                names = ", ".join(Change(before, after).differences())
                origin = f" from {before.source}" if before.source else ""
                sentence = f"Exists already{origin}, with another {names}"
                if self.options.on_conflict == "skip":
                    remark = Remark(entry.id, f"{sentence}.", None, entry.place)
                    plan.skipped.append(remark)
                else:
                    sentence += ": 'on_conflict=update' changes it, 'on_conflict=skip' leaves it."
                    plan.refused.append(Remark(entry.id, sentence, "id", entry.place))

    def _preserved(self, change: Change, held: Set[str], plan: Plan) -> dict[str, Any]:
        """Return the stored values of the fields that must not change, and report them."""
        if change.before is None or self.options.force:
            return {}
        found = {n: pair for n, pair in change.differences().items() if n in held}
        plan.preserved += [Preserved(change.id, n, *pair) for n, pair in found.items()]
        return {name: old for name, (old, _) in found.items()}

    def _missing(self, snapshot: Snapshot, plan: Plan) -> Iterator[Change]:
        """Yield the changes of the entries of this source that the file lacks."""
        options, ids = self.options, self.file.ids
        if not options.prune and options.retire is None:
            return
        missing = [m for m in snapshot.models if m.source == self.name and m.id not in ids]
        if missing and not self.file.entries:
            name = "prune" if options.retire is None else "retire"
            number = len(missing)
            sentence = f"The file has no model: with '{name}' all {number} of the source would go."
            raise InvalidValue(name, sentence)
        if options.retire is None:
            yield from (Change(model, None) for model in missing)
            return
        for batch in _batches(missing):
            setters = self.store.log.setters([model.id for model in batch], self.name)
            for model in batch:
                after = _retired(model, options.retire, self.now)
                fields = self._preserved(Change(model, after), setters[model.id].held, plan)
                if after == model or "shutdown_date" in fields:
                    plan.unchanged += 1
                else:
                    yield Change(model, replace(after, **fields))


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[first : first + _BATCH] for first in range(0, len(items), _BATCH))


def _retired(model: Model, day: str, now: int) -> Model:
    """Return `model` so that it retires on `day`, unless it does so earlier."""
    end, own_end = read_moment(day), shutdown_time(model)
    assert end is not None, "the day was checked"  # noqa: S101
    if own_end is not None and own_end <= end:
        return model
    return replace(model, shutdown_date=day, deprecation=deprecation_before(model, end, now))


def _consistent(model: Model, before: Model | None, place: int | str, plan: Plan) -> Model:
    """Return `model` without the fields that contradict its others."""
    for stored in (before, None):
        known = {n: value for n in _TOGETHER if (value := getattr(model, n)) is not None}
        try:
            check_together(known)
        except ValidationFailed as error:
            wrong = {path: sentence for path, [sentence] in error.errors.items()}
            most = model.max_input_tokens
            if "max_input_tokens" in wrong and stored and stored.max_input_tokens == most:
                # It stays, perhaps because of a person: what is new is the other length.
                del wrong["max_input_tokens"]
                wrong["context_length"] = (
                    f"Must be at least max_input_tokens, which is {most}, not "
                    f"{model.context_length}."
                )
            for path, sentence in wrong.items():
                plan.degraded.append(Remark(model.id, sentence, path, place))
                name = path.partition(".")[0]
                correct: dict[str, Any] = {name: getattr(stored, name, None)}
                model = replace(model, **correct)
        else:
            break
    return model
