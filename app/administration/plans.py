"""Plans of many entries: written in one transaction, and reported as JSON."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.administration.transactions import Transactions
from app.catalog.catalog import Catalog
from app.catalog.errors import InvalidValue, PlanChanged, RowsRefused, StoreUnavailable, quote
from app.catalog.plan import Plan, Remark
from app.catalog.ports import Actor, Position
from app.catalog.snapshot import Snapshot
from app.schemas import PermissionSchema

_PERMISSION = PermissionSchema()


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
    #: What the plan is of, as members of the report.
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plans(Transactions):
    """Changes that are planned against `catalog`."""

    catalog: Catalog

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

        If other changes were faster, and may matter, the plan is made again while writers wait.
        """
        snapshot, is_stale = self.catalog.current_or_stale()
        if is_stale:  # perhaps with changes that a failover has lost
            raise StoreUnavailable(self.catalog.outage or "The catalogue cannot be read.")
        plan = make(snapshot)
        if applying.dry_run:
            return Applied(plan, plan.position.revision)
        self._check(plan, applying, instead)
        if not plan.changes:
            return Applied(plan, plan.position.revision)
        with self._transaction(actor, now) as (transaction, _):
            started = time.perf_counter()
            base = transaction.base
            if base != plan.position:
                later = self.store.changes_since(plan.position)
                if later is None or not plan.holds_after(later, snapshot):
                    snapshot = self.catalog.current()
                    # After a restore no line has the mark of the last change.
                    if base not in (snapshot.position, Position(snapshot.revision, "")):
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
            later = self.store.log.ids_changed_since(since)
            if changed := [model_id for model_id in plan.shown_ids if model_id in later]:
                raise PlanChanged(changed, since)
        if plan.refused and not applying.partial:
            raise RowsRefused([*map(_sentence, plan.refused)], instead)


def report(applied: Applied, *, dry_run: bool) -> dict[str, Any]:
    """Return a plan as JSON, for HTTP and the command line alike."""
    plan = applied.plan
    return {
        "object": "plan",
        **applied.about,
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
