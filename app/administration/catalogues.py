"""Changes of many entries, as plans: imports of files, and edits of a selection."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from app.administration.entries import check_fields, merged
from app.administration.rows import Entry, File, read_rows
from app.administration.transactions import Transactions
from app.catalog.catalog import Catalog
from app.catalog.errors import (
    InvalidValue,
    ModelNotFound,
    PlanChanged,
    RosterError,
    RowsRefused,
    StoreUnavailable,
    ValidationFailed,
    quote,
)
from app.catalog.lifecycle import deprecation_time, read_moment, rfc3339, shutdown_time
from app.catalog.model import Model
from app.catalog.plan import Plan, Preserved, Remark, settle
from app.catalog.ports import Actor, Change, Line
from app.catalog.snapshot import Snapshot
from app.catalog.sources import FailedRun, GoodRun, check_source, problem_with_source
from app.names import resolve_mirrors
from app.schemas import AdminModelSchema, PermissionSchema, check, check_together
from app.sources import Sources
from app.sources.reading import read

_log = logging.getLogger(__name__)

_MODEL = AdminModelSchema()
_PERMISSION = PermissionSchema()
#: What differs from row to row, or is not set by a body at all.
_NEVER_ALIKE = AdminModelSchema.read_only | {"id", "aliases"}
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
class Applying:
    """What is done with a plan."""

    #: Whether it is only returned.
    dry_run: bool = False
    #: Whether the rest is done where some rows are refused.
    partial: bool = False
    #: The revision at which the plan was shown; None if it does not matter.
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A plan, and what was done with it."""

    plan: Plan
    #: The revision after it; of a dry run the one that the plan was made for.
    revision: int
    #: How long its transaction held up other writers.
    seconds: float = 0.0
    #: Of an import.
    format: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogueChanges(Transactions):
    """Changes of many entries, planned against `catalog`."""

    catalog: Catalog
    sources: Sources

    def import_catalogue(
        self,
        body: bytes,
        options: ImportOptions,
        applying: Applying,
        *,
        actor: Actor,
        media_type: str | None = None,
        progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    ) -> Applied:
        """Bring the catalogue in step with a file, and record how that ended.

        `progress` is given what is checked, and returns it. Raises `InvalidJson` and
        `InvalidValue` for a file that is no catalogue, `RowsRefused` and `PlanChanged`.
        """
        options = self._checked(options)
        source = None
        try:
            content = read(body, media_type)
            source = self.sources.choose(content, options.format)
            name = options.source or source.name
            now = int(self.clock())
            rows = source.rows(content)
            del body, content  # of a large file they are many MiB
            file = read_rows(rows, source, prefix=options.prefix, progress=progress)
            planner = _Importer(self, file, options, name, now, is_complete=source.is_complete)
            applied = self._apply(
                planner.plan,
                applying,
                actor=actor,
                now=now,
                action=f"import:{name}",
                instead="'dry_run' shows all of them, 'partial' leaves them out.",
            )
        except RosterError as error:
            if not applying.dry_run:
                self.record_failure(options, error, None if source is None else source.name)
            raise
        if not applying.dry_run:
            run = GoodRun(now, applied.revision, **applied.plan.counts)
            self._record(name, run, source.name)
        return replace(applied, format=source.name, source=name)

    def _checked(self, options: ImportOptions) -> ImportOptions:
        """Return `options` with checked fields; refuse wrong ones before a file is read."""
        self.sources.named(options.format)
        if options.on_conflict not in ON_CONFLICT:
            words, given = ", ".join(ON_CONFLICT), quote(options.on_conflict)
            raise InvalidValue(
                "on_conflict", f"'on_conflict' must be one of: {words}; not '{given}'."
            )
        if options.source is not None:
            check_source(options.source)
        if options.retire is not None:
            try:
                check(_MODEL, {"shutdown_date": options.retire})
            except ValidationFailed as error:
                [sentence] = error.errors["shutdown_date"]
                raise InvalidValue("retire", f"retire: {sentence}") from None
        if fixed := sorted(options.fields.keys() & _NEVER_ALIKE):
            raise ValidationFailed({name: ["Cannot be set for all rows."] for name in fixed})
        checked = resolve_mirrors(check(_MODEL, options.fields), None)
        check_together({"id": "", **checked})
        return replace(options, fields=checked)

    def record_failure(
        self, options: ImportOptions, error: Exception, known_format: str | None = None
    ) -> None:
        """Record that an import failed, if the name of its source is known."""
        given = [source.name for source in self.sources if source.name == options.format]
        name = options.source or known_format or next(iter(given), None)
        if name is not None and problem_with_source(name) is None:
            self._record(name, FailedRun(int(self.clock()), str(error)), known_format)

    def _record(self, name: str, run: GoodRun | FailedRun, known_format: str | None) -> None:
        try:
            self.store.record_run(name, run, known_format=known_format)
        except StoreUnavailable as error:  # what the import did counts, not this
            _log.warning("The end of the import from %s was not recorded: %s", name, error.reason)

    def edit_models(
        self,
        select: Callable[[Snapshot], Sequence[Model | ModelNotFound]],
        patch: Mapping[str, Any] | None,
        applying: Applying,
        *,
        actor: Actor,
    ) -> Applied:
        """Apply a merge patch to many entries, or remove them if it is None.

        `select` returns the entries, and an error for each id that has none. Raises
        `ValidationFailed` for what is wrong with the patch, `RowsRefused` and `PlanChanged`.
        """
        if patch is not None:
            check_fields(patch)
        now = int(self.clock())

        def plan(snapshot: Snapshot) -> Plan:
            return _plan_edit(snapshot, select(snapshot), patch, now)

        return self._apply(
            plan, applying, actor=actor, now=now, instead="'dry_run' shows all of them."
        )

    def _apply(
        self,
        make: Callable[[Snapshot], Plan],
        applying: Applying,
        *,
        actor: Actor,
        now: int,
        instead: str,
        action: str | None = None,
    ) -> Applied:
        """Make a plan, and write it in one transaction.

        If another change was faster, the plan is made again while other writers wait.
        """
        plan = make(self.catalog.current())
        if applying.dry_run:
            return Applied(plan, plan.position.revision)
        self._check(plan, applying, instead)
        if not plan.changes:
            return Applied(plan, plan.position.revision)
        with self._transaction(actor, now) as (transaction, _):
            started = time.perf_counter()
            base = transaction.base
            if base != plan.position:
                snapshot = self.catalog.current()
                if snapshot.revision != base.revision:
                    raise StoreUnavailable("The catalogue cannot be read while it is written.")
                plan = make(snapshot)
                self._check(plan, applying, instead)
            revision = base.revision
            if plan.changes:
                revision = transaction.write(plan.changes, action)
        return Applied(plan, revision, time.perf_counter() - started)

    def _check(self, plan: Plan, applying: Applying, instead: str) -> None:
        """Raise where `plan` must not be applied."""
        since = applying.revision
        if since is not None and since > plan.position.revision:
            sentence = f"The catalogue is at revision {plan.position.revision}, not {since} yet."
            raise InvalidValue("revision", sentence)
        if since is not None and since < plan.position.revision:
            later = self.store.ids_changed_since(since)
            if changed := [model_id for model_id in plan.shown_ids if model_id in later]:
                raise PlanChanged(changed, since)
        if plan.refused and not applying.partial:
            raise RowsRefused([*map(_sentence, plan.refused)], instead)


class _Importer:
    """Plans the import of one file."""

    def __init__(
        self,
        changes: CatalogueChanges,
        file: File,
        options: ImportOptions,
        name: str,
        now: int,
        *,
        is_complete: bool,
    ) -> None:
        self._store = changes.store
        self._file = file
        self._options = options
        self._name = name
        self._now = now
        self._is_complete = is_complete

    def plan(self, snapshot: Snapshot) -> Plan:
        """Return the plan for the entries of `snapshot`."""
        file = self._file
        plan = Plan(
            position=snapshot.position,
            skipped=[*file.skipped],
            refused=[*file.refused],
            degraded=[*file.degraded],
        )
        changes = [*self._present(snapshot, plan), *self._missing(snapshot, plan)]
        # An export that is put back must not lack an entry without anybody's knowing.
        skip_taken = self._options.on_conflict != "fail" and not self._is_complete
        settle(plan, changes, snapshot, strict=False, skip_taken=skip_taken)
        return plan

    def _present(self, snapshot: Snapshot, plan: Plan) -> Iterator[Change]:
        """Yield the changes of the entries that the file has."""
        stored = {model.id: model for model in snapshot.models}
        differing: list[tuple[Entry, Change, list[str]]] = []
        for entry in self._file.entries:
            before = stored.get(entry.id)
            after = self._composed(entry, before)
            # Fields that the entry has and the row lacks: the source may have had them before.
            gone = [] if before is None or self._is_complete else self._gone(entry, before)
            if after != before or gone:
                differing.append((entry, Change(before, after), gone))
            else:
                plan.unchanged += 1
        for batch in _batches(differing):
            yield from self._allowed(batch, plan)

    def _composed(self, entry: Entry, before: Model | None) -> Model:
        """Return the entry as the file has it."""
        source = entry.source if self._is_complete else self._name
        fields = {**entry.fields, **self._options.fields, "id": entry.id, "source": source}
        if before is None or self._is_complete:
            after = Model.compose(fields, now=self._now, stored=before)
        else:
            # Some programs answer the time of the request; who has brought an entry stays so.
            changed = {n: v for n, v in fields.items() if n not in ("created", "source")}
            after = before.updated(changed)
        if self._options.hidden:
            return replace(after, permission=() if before is None else before.permission)
        return after

    def _gone(self, entry: Entry, before: Model) -> list[str]:
        given = {*entry.fields, *self._options.fields, *entry.wrong}
        return [n for n in _OPTIONAL if n not in given and getattr(before, n) is not None]

    def _allowed(
        self, differing: Sequence[tuple[Entry, Change, Sequence[str]]], plan: Plan
    ) -> Iterator[Change]:
        """Yield the changes, without those of fields that a person has changed."""
        history = self._store.history([entry.id for entry, _, _ in differing])
        for entry, (before, given), gone in differing:
            assert given is not None, "a row never removes"  # noqa: S101
            held, own, is_removed = self._setters(history[entry.id])
            if before is None and is_removed and not self._options.force:
                sentence = "A person has removed it; 'force' adds it again."
                plan.skipped.append(Remark(entry.id, sentence, None, entry.place))
                continue
            fields: dict[str, Any] = {name: None for name in gone if name in own}
            fields |= self._preserved(Change(before, given), held, plan)
            after = _consistent(replace(given, **fields), before, entry.place, plan)
            if after == before:
                plan.unchanged += 1
            elif before is None or self._options.on_conflict == "update":
                yield Change(before, after)
            else:
                names = ", ".join(Change(before, after).differences())
                sentence = f"Exists already, with another {names}"
                if self._options.on_conflict == "skip":
                    remark = Remark(entry.id, f"{sentence}.", None, entry.place)
                    plan.skipped.append(remark)
                else:
                    sentence += ": 'on_conflict=update' changes it, 'on_conflict=skip' leaves it."
                    plan.refused.append(Remark(entry.id, sentence, "id", entry.place))

    def _preserved(self, change: Change, held: Set[str], plan: Plan) -> dict[str, Any]:
        """Return the stored values of the fields that must not change, and report them."""
        if change.before is None or self._options.force:
            return {}
        found = {n: pair for n, pair in change.differences().items() if n in held}
        plan.preserved += [Preserved(change.id, n, *pair) for n, pair in found.items()]
        return {name: old for name, (old, _) in found.items()}

    def _setters(self, lines: Sequence[Line]) -> tuple[Set[str], Set[str], bool]:
        """Return what the log says of an entry.

        The fields that a person has changed since it is of this source, and the source has not
        since; those that the source was the last to change; and whether a person has removed it.
        An entry is of the source once that has written it, or an export has named the source.
        """
        held, own = set[str](), set[str]()
        is_ours = is_removed = False
        for line in lines:
            by_person = line.action.startswith("model.")
            is_removed = line.is_removal and by_person and is_ours
            if line.is_removal:
                held, own, is_ours = set(), set(), False
            elif line.action == f"import:{self._name}":
                held, own, is_ours = held - line.fields, own | line.fields, True
            else:
                own -= line.fields
                is_ours |= line.source == self._name
                if by_person and is_ours:
                    held |= line.fields
        return held, own, is_removed

    def _missing(self, snapshot: Snapshot, plan: Plan) -> Iterator[Change]:
        """Yield the changes of the entries of this source that the file lacks."""
        options, ids = self._options, self._file.ids
        if not options.prune and options.retire is None:
            return
        missing = [m for m in snapshot.models if m.source == self._name and m.id not in ids]
        if missing and not self._file.entries:
            raise InvalidValue(
                "prune",
                f"The file has no model: with 'prune' all {len(missing)} of the source would go.",
            )
        if options.retire is None:
            yield from (Change(model, None) for model in missing)
            return
        for batch in _batches(missing):
            history = self._store.history([model.id for model in batch])
            for model in batch:
                after = _retired(model, options.retire, self._now)
                held, _, _ = self._setters(history[model.id])
                fields = self._preserved(Change(model, after), held, plan)
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
    deprecated = deprecation_time(model)
    if deprecated is None or deprecated > end:
        model = replace(model, deprecation=rfc3339(min(now, end)))
    return replace(model, shutdown_date=day)


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


def _plan_edit(
    snapshot: Snapshot,
    selected: Sequence[Model | ModelNotFound],
    patch: Mapping[str, Any] | None,
    now: int,
) -> Plan:
    plan = Plan(position=snapshot.position)
    changes = []
    for before in selected:
        if isinstance(before, ModelNotFound):
            plan.refused.append(Remark(before.model_id, f"{before}.", "id"))
            continue
        try:
            after = None if patch is None else merged(before, patch, now)
        except ValidationFailed as error:
            name, [sentence, *_] = next(iter(error.errors.items()))
            plan.refused.append(Remark(before.id, sentence, name))
            continue
        if after == before:
            plan.unchanged += 1
        else:
            changes.append(Change(before, after))
    settle(plan, changes, snapshot, strict=True)
    return plan


def select_ids(ids: Sequence[str], snapshot: Snapshot) -> Sequence[Model | ModelNotFound]:
    """Return the entry with each of these ids, or the error that there is none."""
    found: list[Model | ModelNotFound] = []
    for model_id in dict.fromkeys(ids):
        model = snapshot.get(model_id)
        holder = None if model is None else model.id
        is_alias = model is not None and model.id != model_id
        found.append(
            ModelNotFound(model_id, holder=holder) if model is None or is_alias else model
        )
    return found


def report(applied: Applied, *, dry_run: bool) -> dict[str, Any]:
    """Return a plan as JSON, for HTTP and the command line alike."""
    plan = applied.plan
    of_import = {"format": applied.format, "source": applied.source} if applied.format else {}
    return {
        "object": "plan",
        **of_import,
        "dry_run": dry_run,
        "revision": applied.revision,
        "added": [change.id for change in plan.changes if change.kind == "added"],
        "changed": [
            {
                "id": change.id,
                "fields": {
                    name: {"old": _shown(old), "new": _shown(new)}
                    for name, (old, new) in change.differences().items()
                },
            }
            for change in plan.changes
            if change.kind == "changed"
        ],
        "removed": [change.id for change in plan.changes if change.kind == "removed"],
        "unchanged": plan.unchanged,
        "skipped": [_remark(remark) for remark in plan.skipped],
        "refused": [_remark(remark) for remark in plan.refused],
        "degraded": [_remark(remark) for remark in plan.degraded],
        "kept": [
            {"id": i, "field": name, "stored": _shown(old), "given": _shown(new)}
            for i, name, old, new in plan.preserved
        ],
        "warnings": plan.warnings,
        "seconds": round(applied.seconds, 3),
    }


def _remark(remark: Remark) -> dict[str, Any]:
    place = remark.place  # a number, or a key of the file as it is
    shown = quote(place) if isinstance(place, str) else place
    given = {"row": shown, "id": remark.id, "field": remark.field}
    known = {name: value for name, value in given.items() if value is not None}
    return {**known, "message": remark.message}


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return [_PERMISSION.dump(permission) for permission in value]
    return value


def _sentence(remark: Remark) -> str:
    row = "" if remark.place is None else f"row {quote(remark.place)}, "
    return f"{row}'{quote(remark.id)}': {remark.message}"
