"""How an edit of many entries is planned."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.administration.entries import merged
from app.catalog.errors import ModelNotFound, ValidationFailed
from app.catalog.model import Model
from app.catalog.plan import Plan, Remark, settle
from app.catalog.ports import Change
from app.catalog.snapshot import Snapshot


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


def plan_edit(
    snapshot: Snapshot,
    selected: Sequence[Model | ModelNotFound],
    patch: Mapping[str, Any] | None,
    now: int,
) -> Plan:
    """Return the plan that merges a patch into each of these, or removes them if it is None."""
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
