"""The catalogue as it was, and changes that are taken back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from app.administration.entries import merged
from app.administration.plans import Applied, Applying, Plans
from app.catalog.errors import (
    InvalidValue,
    ModelNotFound,
    RosterError,
    StoreUnavailable,
    ValidationFailed,
    quote,
)
from app.catalog.history import REVISION, Act, Entries, Line, LogFilter, Moment, read_time
from app.catalog.model import Model
from app.catalog.plan import Plan, Remark, settle
from app.catalog.ports import Actor, Change, Log
from app.catalog.snapshot import Snapshot
from app.catalog.sources import problem_with_source


@dataclass(frozen=True, slots=True)
class History(Plans):
    """Reads what the catalogue was, and brings entries back to that; keys never."""

    def find(self, text: str, snapshot: Snapshot, param: str = "as_of") -> Moment:
        """Return the moment of the parameter `param`, which is a revision or a time.

        Raises `InvalidValue` for one that is not yet, or that is neither.
        """
        if REVISION.fullmatch(text):
            return self.at_revision(int(text), snapshot, param)
        time = read_time(param, text, "a revision, ")
        if time > self.clock():
            raise InvalidValue(param, f"'{param}' must not be in the future.")
        return Moment(self.store.log.revision_at(time), time)

    def at_revision(self, revision: int, snapshot: Snapshot, param: str) -> Moment:
        """Return the moment of a revision; raise `InvalidValue` for one that is not yet.

        In an outage, which may hide it, that is `StoreUnavailable`.
        """
        if revision > snapshot.revision:
            if self.catalog.outage is not None:
                raise StoreUnavailable(self.catalog.outage)
            sentence = (
                f"'{param}': the catalogue is at revision {snapshot.revision}, not {revision} yet."
            )
            raise InvalidValue(param, sentence)
        return Moment(revision, None)

    def as_of(self, moment: Moment, snapshot: Snapshot) -> Entries:
        """Return what the entries of `snapshot` were at an earlier moment.

        Raises `HistoryPruned` and `RevisionUnknown`.
        """
        if moment.revision > snapshot.revision:  # by its time: others have written since
            snapshot = self.catalog.current()
        at, models = self.store.log.past(moment.revision, snapshot.position)
        time = at if moment.time is None else moment.time
        return Entries(snapshot.models.changed(models), time)

    def find_act(self, revision: int | None, model_id: str | None) -> Act:
        """Return the act with this revision; if it is None, the last one, or the last of an entry.

        Raises `InvalidValue` if there is none, or if it has not changed the entry, and
        `HistoryPruned` if it was removed.
        """
        log = self.store.log
        if revision is None:
            found = log.lines(LogFilter(model=model_id, of_entries=True), 1)
            if not found:
                none = InvalidValue("revision", "No entry was changed yet.")
                current = self.catalog.current()
                error = none if model_id is None else _unchanged(model_id, "the log", current)
                if not isinstance(error, ModelNotFound):
                    log.check_begin(0)  # or that may have been removed
                raise error
            revision = found[0].revision
        act = log.act(revision)
        if act is None:
            raise InvalidValue("revision", f"No line of the log has the revision {revision}.")
        if act.keys:
            sentence = (
                f"Revision {revision} is of a key, and what was done to keys stays: "
                "make another key instead."
            )
            raise InvalidValue("revision", sentence)
        return act

    def undo(
        self, act: Act, model_id: str | None, applying: Applying, *, force: bool, actor: Actor
    ) -> Applied:
        """Take an act back, or only what it has done to one entry.

        Entries that were changed again since are refused, unless `force`. Raises `RowsRefused`.
        """
        changes = self.store.log.changes_of(act, model_id)
        if model_id is not None and not changes:
            raise _unchanged(model_id, f"the act of revision {act.batch}", self.catalog.current())
        targets = {change.id: change.before for change in changes}
        now = int(self.clock())

        def make(snapshot: Snapshot) -> Plan:
            later = {} if force else self.store.log.last_changes([*targets], act.last)
            return plan_return(snapshot, targets, later, now)

        applied = self._apply(
            make,
            applying,
            actor=actor,
            now=now,
            action=f"undo:{act.batch}",
            instead="'dry_run' shows all of them, 'force' overrides what was changed again.",
        )
        return replace(applied, about={"undone": act.batch})

    def revert(
        self, moment: Moment, model_id: str | None, applying: Applying, *, actor: Actor
    ) -> Applied:
        """Put the catalogue, or one entry, back to what it was at an earlier moment.

        Raises `HistoryPruned`, `RevisionUnknown`, and `RowsRefused`.
        """
        revision, now = moment.revision, int(self.clock())
        planned: Snapshot | None = None
        past: Mapping[str, Model | None] = {}

        def make(snapshot: Snapshot) -> Plan:
            nonlocal planned, past
            later = None if planned is None else self.store.changes_since(planned.position)
            if planned is None or later is None:
                _, past = self.store.log.past(revision, snapshot.position, model_id)
            else:  # other writers wait
                past = {**{i: planned.models.get(i) for i in later.models}, **past}
            planned, targets = snapshot, past
            if model_id is not None:
                known = targets.get(model_id, snapshot.models.get(model_id))
                if known is None and model_id not in targets:
                    raise _unchanged(model_id, "the log", snapshot)
                targets = {model_id: known}
            plan = plan_return(snapshot, targets, {}, now)
            if model_id is None:  # a later change of any entry is to be taken back, too
                plan.asked = None
            return plan

        applied = self._apply(
            make,
            applying,
            actor=actor,
            now=now,
            action=f"revert:{revision}",
            instead="'dry_run' shows all of them.",
        )
        return replace(applied, about={"reverted_to": revision})


def _unchanged(model_id: str, where: str, snapshot: Snapshot) -> RosterError:
    """Return the error for an entry that was not changed: it may exist, or be an alias."""
    found = snapshot.get(model_id)
    if found is not None and found.id == model_id:
        sentence = f"No change of the model '{quote(model_id)}' is in {where}."
        return InvalidValue("model", sentence)
    return ModelNotFound(model_id, holder=None if found is None else found.id)


@contextmanager
def unchecked() -> Iterator[None]:
    """Raise `StoreUnavailable` where an entry as it was is none: any may be in a restored log."""
    try:
        yield
    except (BrokenPipeError, UnicodeEncodeError):  # of the terminal
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"An entry in the log cannot be used: {error}") from error


def shown_page(log: Log, selection: LogFilter, limit: int) -> dict[str, Any]:
    """Return a page of the log as JSON, for HTTP and the command line alike."""
    lines = log.lines(selection, limit + 1)
    data = [*map(_shown_line, lines[:limit])]
    first, last = (data[0]["revision"], data[-1]["revision"]) if data else (None, None)
    ends = {"has_more": len(lines) > limit, "first_id": first, "last_id": last}
    return {"object": "list", "data": data, **ends}


def _shown_line(line: Line) -> dict[str, Any]:
    differences = line.differences().items()
    return {
        "revision": line.revision,
        "at": line.at,
        "actor": line.actor,
        "action": line.action,
        "kind": line.kind,
        "batch": line.batch,
        "request_id": line.request_id,
        **({"model": line.model_id} if line.kid is None else {"key": line.kid}),
        "fields": {name: {"old": old, "new": new} for name, (old, new) in differences},
    }


def plan_return(
    snapshot: Snapshot,
    targets: Mapping[str, Model | None],
    later: Mapping[str, tuple[int, str]],
    now: int,
) -> Plan:
    """Return the plan that makes of each entry what `targets` has by its id.

    An entry is refused if it is in `later`, which has revision and author of its last change.
    """
    plan = Plan(position=snapshot.position, asked=targets.keys())
    changes = []
    for model_id, after in sorted(targets.items()):
        before = snapshot.models.get(model_id)
        if after == before:
            plan.unchanged += 1
        elif model_id in later:
            revision, actor = later[model_id]
            sentence = f"Was changed again, at revision {revision} by {actor}."
            plan.refused.append(Remark(model_id, sentence))
        else:
            try:
                changes.append(Change(before, None if after is None else _storable(after, now)))
            except ValidationFailed as error:
                plan.refused.append(Remark(model_id, f"Cannot be stored as it was: {error}"))
    settle(plan, changes, snapshot, strict=True)
    return plan


def _storable(model: Model, now: int) -> Model:
    """Return an entry of the log as it may be stored, or raise `ValidationFailed`.

    It may be of a restored file, where any member may be anything, or of an older program.
    """
    try:
        checked = merged(model, {}, now)
        problem = None if model.source is None else problem_with_source(model.source)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValidationFailed({"": ["Is no entry."]}) from None
    if problem is not None:
        raise ValidationFailed({"source": [problem]})
    return checked
