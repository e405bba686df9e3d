"""Whole catalogues: imports of files, and edits of many entries."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.administration.edits import plan_edit
from app.administration.entries import check_fields
from app.administration.imports import ON_CONFLICT, Importer, ImportOptions
from app.administration.plans import Applied, Applying, Plans
from app.administration.rows import read_rows
from app.catalog.errors import (
    InvalidValue,
    ModelNotFound,
    RosterError,
    StoreUnavailable,
    ValidationFailed,
    quote,
)
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.catalog.snapshot import Snapshot
from app.catalog.sources import FailedRun, GoodRun, problem_with_source
from app.names import resolve_mirrors
from app.schemas import AdminModelSchema, check, check_together
from app.sources import Sources
from app.sources.reading import read

_log = logging.getLogger(__name__)

_MODEL = AdminModelSchema()
#: What differs from row to row, or is not set by a body at all.
_NEVER_ALIKE = AdminModelSchema.read_only | {"id", "aliases"}


@dataclass(frozen=True, slots=True)
class CatalogueChanges(Plans):
    """Changes of many entries."""

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
            importer = Importer(
                store=self.store,
                file=file,
                options=options,
                name=name,
                now=now,
                is_complete=source.is_complete,
            )
            applied = self._apply(
                importer.plan,
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
        return replace(applied, about={"format": source.name, "source": name})

    def _checked(self, options: ImportOptions) -> ImportOptions:
        """Return `options` with checked fields; refuse wrong ones before a file is read."""
        self.sources.named(options.format)
        if options.on_conflict not in ON_CONFLICT:
            words, given = ", ".join(ON_CONFLICT), quote(options.on_conflict)
            raise InvalidValue(
                "on_conflict", f"'on_conflict' must be one of: {words}; not '{given}'."
            )
        if options.source is not None and (problem := problem_with_source(options.source)):
            raise InvalidValue("source", f"source: {problem}")
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
        return self._apply(
            lambda snapshot: plan_edit(snapshot, select(snapshot), patch, now),
            applying,
            actor=actor,
            now=now,
            instead="'dry_run' shows all of them.",
        )
