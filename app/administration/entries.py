"""The changes of one entry, and the preconditions of HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from app.administration.transactions import Transactions
from app.catalog.errors import ModelExists, ModelNotFound, RevisionMismatch, ValidationFailed
from app.catalog.model import Model
from app.catalog.plan import check_prices, check_replacement
from app.catalog.ports import Actor, Change, Transaction
from app.names import MIRROR_FIELDS, resolve_mirrors
from app.schemas import AdminModelSchema, check, check_patch, check_together

_MODEL = AdminModelSchema()
#: The fields of an entry, each under one name.
_FIELDS = AdminModelSchema(exclude=MIRROR_FIELDS)

#: The header value ``*``: any revision.
ANY = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Precondition:
    """The headers If-Match and If-None-Match of a change (RFC 9110, section 13).

    Each is the set of revisions that the header names, in decimal digits, or `ANY`. If `if_match`
    is None, there is no such header; if it is empty, it names no revision, and no entry matches.
    """

    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] = frozenset()

    def check(self, current: Model | None) -> None:
        """Raise `RevisionMismatch` unless `current`, None if absent, meets the precondition."""
        revision = None if current is None else current.revision
        names = frozenset() if current is None else ANY | {str(revision)}
        matches = self.if_match is None or not names.isdisjoint(self.if_match)
        if not matches or not names.isdisjoint(self.if_none_match):
            raise RevisionMismatch(revision)


#: For a change without these headers.
UNCONDITIONAL = Precondition()


class Written(NamedTuple):
    """The result of a change of an entry."""

    #: The entry as it is stored now.
    model: Model
    is_new: bool
    #: False if the entry was so already: nothing was stored.
    is_changed: bool
    #: What the change allows although it may be a mistake, in sentences.
    warnings: Sequence[str] = ()


class EntryChanges(Transactions):
    """The changes of one entry."""

    __slots__ = ()

    def create_model(
        self,
        fields: Mapping[str, Any],
        *,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Written:
        """Add an entry; `ModelExists` if another has its id or one of its aliases."""
        checked = check(_MODEL, fields)
        if "id" not in checked:
            raise ValidationFailed({"id": ["Missing: every model needs an id."]})
        now = int(self.clock())
        model = _compose(checked, now, None)
        with self._transaction(actor, now) as (transaction, _):
            _check_ids(model, None, transaction.models_of(model.ids))
            return _put(transaction, model, None, precondition)

    def replace_model(
        self,
        model_id: str,
        fields: Mapping[str, Any],
        *,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Written:
        """Replace or create an entry."""
        checked = check(_MODEL, {"id": model_id, **fields})
        _same_id(checked, model_id)
        now = int(self.clock())
        with self._transaction(actor, now) as (transaction, _):
            found = transaction.models_of([model_id, *checked.get("aliases", ())])
            holder = found.get(model_id)
            stored = holder if holder is not None and holder.id == model_id else None
            model = _compose(checked, now, stored)
            _check_ids(model, stored, found)
            return _put(transaction, model, stored, precondition)

    def merge_model(
        self,
        model_id: str,
        patch: Mapping[str, Any],
        *,
        actor: Actor,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Written:
        """Apply a merge patch (RFC 7396): lists are replaced whole, null removes."""
        _same_id(patch, model_id)
        check_patch(_MODEL, patch)
        now = int(self.clock())
        with self._transaction(actor, now) as (transaction, _):
            stored = _find(transaction, model_id)
            model = merged(stored, patch, now)
            if added := [name for name in model.ids if name not in stored.ids]:
                _check_ids(model, stored, transaction.models_of(added))
            return _put(transaction, model, stored, precondition)

    def remove_model(
        self, model_id: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> int:
        """Remove an entry, which stays in the log, and return the revision of that."""
        with self._transaction(actor, int(self.clock())) as (transaction, _):
            stored = _find(transaction, model_id)
            precondition.check(stored)
            return transaction.write([Change(stored, None)])


def check_fields(patch: Mapping[str, Any]) -> None:
    """Raise `ValidationFailed` for what is wrong with a merge patch of many entries."""
    if "id" in patch:
        raise ValidationFailed({"id": ["Cannot change."]})
    check_patch(_MODEL, patch)


def merged(stored: Model, patch: Mapping[str, Any], now: int) -> Model:
    """Return the entry after a merge patch, or raise `ValidationFailed`."""
    changes = resolve_mirrors(patch, stored)
    return _compose(check(_MODEL, _merge(_FIELDS.dump(stored), changes)), now, stored)


def _compose(checked: Mapping[str, Any], now: int, stored: Model | None) -> Model:
    """Return the entry with these fields, or raise `ValidationFailed`."""
    fields = resolve_mirrors(checked, stored)
    check_together(fields, stored)
    return Model.compose(fields, now=now, stored=stored)


def _find(transaction: Transaction, model_id: str) -> Model:
    """Return the entry with this id, or raise `ModelNotFound`."""
    holder = transaction.models_of([model_id]).get(model_id)
    if holder is None:
        raise ModelNotFound(model_id)
    if holder.id != model_id:
        raise ModelNotFound(model_id, holder=holder.id)
    return holder


def _check_ids(model: Model, stored: Model | None, found: Mapping[str, Model]) -> None:
    """Raise `ModelExists` if another entry has a name of `model` that `stored` does not have."""
    own = () if stored is None else stored.ids
    for name in model.ids:
        if name in found and name not in own:
            raise ModelExists(name, found[name].id, "id" if name == model.id else "aliases")


def _put(
    transaction: Transaction, model: Model, stored: Model | None, precondition: Precondition
) -> Written:
    """Store `model` in place of `stored`, None if absent, unless they are equal."""
    precondition.check(stored)
    if stored is not None and model == stored:
        return Written(stored, is_new=False, is_changed=False)

    def find(name: str) -> Model | None:
        return transaction.models_of([name]).get(name)

    is_replaced = model.deprecation_replacement_model is not None
    replacement = check_replacement(model, stored, find) if is_replaced else ()
    prices = check_prices([Change(stored, model)]) if model.pricing else ()
    written = replace(model, revision=transaction.write([Change(stored, model)]))
    warnings = (*replacement, *prices)
    return Written(written, is_new=stored is None, is_changed=True, warnings=warnings)


def _same_id(fields: Mapping[str, Any], model_id: str) -> None:
    if fields.get("id", model_id) != model_id:
        raise ValidationFailed({"id": ["Must be left out or equal to the id in the path."]})


def _merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target)
    for name, value in patch.items():
        if isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = _merge(inner if isinstance(inner, dict) else {}, value)
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged
