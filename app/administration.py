"""The changes an administrator makes, for the HTTP routes and the command line alike.

Each method takes fields as they were sent, checks their shape, applies the rule inside one
transaction and returns what is stored now. They raise the errors of ``app.catalog.errors``,
in the order in which the contract lists them: `ValidationFailed`, then `InvalidKey`, then
`ModelNotFound`, `KeyNotFound`, `ModelExists`, `KeyEnded` or `LastAdminKey`, then
`RevisionMismatch`, then `ValidationFailed` for a circle of replacements; `StoreUnavailable` at any
time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

from app.catalog import keys
from app.catalog.errors import (
    InvalidKey,
    KeyEnded,
    KeyNotFound,
    LastAdminKey,
    ModelExists,
    ModelNotFound,
    RevisionMismatch,
    ValidationFailed,
)
from app.catalog.keys import ADMIN, ApiKey
from app.catalog.lifecycle import rfc3339
from app.catalog.model import Model
from app.catalog.ports import Actor, Transaction, Writer
from app.catalog.snapshot import MAX_CHAIN
from app.fields import shown
from app.names import MIRROR_FIELDS, resolve_mirrors
from app.schemas import (
    AdminModelSchema,
    KeySchema,
    RotationSchema,
    check,
    check_patch,
    check_together,
)

_MODEL = AdminModelSchema()
#: The fields of an entry, each under one name.
_FIELDS = AdminModelSchema(exclude=MIRROR_FIELDS)
_KEY = KeySchema()
_KEY_PATCH = KeySchema(only=("name", "groups", "expires_at"), partial=True)
_FIXED = _KEY.fields.keys() - _KEY_PATCH.fields.keys()
_ROTATION = RotationSchema()

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


@dataclass(frozen=True, slots=True)
class Administration:
    """Every change to the catalogue, written to `store` at the time of `clock` (Unix seconds)."""

    store: Writer
    clock: Callable[[], float]

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
            changes = resolve_mirrors(patch, stored)
            model = _compose(check(_MODEL, _merge(_FIELDS.dump(stored), changes)), now, stored)
            if added := [name for name in model.ids if name not in stored.ids]:
                _check_ids(model, stored, transaction.models_of(added))
            return _put(transaction, model, stored, precondition)

    def remove_model(
        self, model_id: str, *, actor: Actor, precondition: Precondition = UNCONDITIONAL
    ) -> Model:
        """Remove an entry and return what it was, which stays in the log."""
        with self._transaction(actor, int(self.clock())) as (transaction, _):
            stored = _find(transaction, model_id)
            precondition.check(stored)
            transaction.remove_model(stored)
            return stored

    def create_key(self, fields: Mapping[str, Any], *, actor: Actor) -> tuple[ApiKey, str]:
        """Make a key; return its row and the key itself, which exists nowhere else.

        Without an end of its own, an admin key gets that of the admin key which makes it.
        """
        checked = check(_KEY, fields)
        now = int(self.clock())
        _check_future(checked["expires_at"], now)
        secret = keys.mint()
        key = keys.describe(
            secret,
            name=checked["name"],
            scopes=tuple(dict.fromkeys(checked["scopes"])),
            organization=checked["organization"],
            groups=tuple(dict.fromkeys(checked["groups"])),
            created=now,
            expires_at=checked["expires_at"],
        )
        with self._transaction(actor, now) as (transaction, acting):
            latest = _latest_end(acting, key)
            if key.expires_at is None:
                key = replace(key, expires_at=latest)
            elif latest is not None and key.expires_at > latest:
                sentence = f"Must be at most {latest}: the admin key that makes it ends then."
                raise ValidationFailed({"expires_at": [sentence]})
            transaction.put_key(key, None, "key.create")
        return key, secret

    def merge_key(self, kid: str, patch: Mapping[str, Any], *, actor: Actor) -> ApiKey:
        """Apply a merge patch to name, groups and expiry; an expired key may be accepted again.

        `KeyEnded` for a key that is refused for good.
        """
        if fixed := patch.keys() & _FIXED:
            sentence = (
                "Cannot be changed; name, groups and expires_at can: make another key instead."
            )
            raise ValidationFailed({name: [sentence] for name in sorted(fixed)})
        if patch.get("groups", ()) is None:
            patch = {**patch, "groups": []}
        changes = check(_KEY_PATCH, patch)
        if "groups" in changes:
            changes["groups"] = tuple(dict.fromkeys(changes["groups"]))
        now = int(self.clock())
        _check_future(changes.get("expires_at"), now)
        with self._transaction(actor, now) as (transaction, acting):
            stored = _find_key(transaction, kid)
            if stored.revoked_at is not None:
                raise KeyEnded(kid, "is revoked")
            if stored.retires_at is not None and stored.retires_at <= now:
                raise KeyEnded(kid, "was rotated, and its grace is over")
            key = replace(stored, **changes)
            latest = _latest_end(acting, key)
            if latest is not None and _end(key) > max(latest, _end(stored)):
                sentence = (
                    "The key would outlive the admin key that changes it, which ends at "
                    f"{latest} (Unix seconds): use another one, or 'flask keys edit'."
                )
                raise ValidationFailed({"expires_at": [sentence]})
            if key != stored:
                transaction.put_key(key, stored, "key.update")
            return key

    def revoke_key(self, kid: str, *, actor: Actor, last: bool = False) -> ApiKey:
        """Refuse a key from now on; to revoke it again changes nothing.

        `LastAdminKey` if no other admin key is accepted now, unless `last`.
        """
        now = int(self.clock())
        with self._transaction(actor, now) as (transaction, _):
            key = _find_key(transaction, kid)
            if key.revoked_at is not None:
                return key
            if not last and key.is_accepted(now):
                admins = [
                    other.kid for other in transaction.admin_keys() if other.is_accepted(now)
                ]
                if admins == [kid]:
                    raise LastAdminKey(kid)
            revoked = replace(key, revoked_at=now)
            transaction.put_key(revoked, key, "key.revoke")
            return revoked

    def rotate_key(
        self, kid: str, fields: Mapping[str, Any], *, actor: Actor
    ) -> tuple[ApiKey, str]:
        """Make a key like this one, which lives on for ``grace`` seconds, rounded up."""
        grace = check(_ROTATION, fields)["grace"]
        moment = self.clock()
        now, end = int(moment), keys.end_after(grace, moment)
        secret = keys.mint()
        with self._transaction(actor, now) as (transaction, acting):
            old = _find_key(transaction, kid)
            if not old.is_accepted(now):
                reason = f"is {old.state(now)} and cannot be rotated; create a new one"
                raise KeyNotFound(kid, reason)
            latest = _latest_end(acting, old)
            if latest is not None and (old.expires_at is None or old.expires_at > latest):
                # To shorten its life instead could leave nobody who may make a lasting key.
                sentence = (
                    "The new key would outlive the admin key that makes it, which ends at "
                    f"{latest} (Unix seconds): use another one, or 'flask keys rotate'."
                )
                raise ValidationFailed({"expires_at": [sentence]})
            new = keys.describe(
                secret,
                name=old.name,
                scopes=old.scopes,
                organization=old.organization,
                groups=old.groups,
                created=now,
                expires_at=old.expires_at,
            )
            retired = replace(old, retires_at=min(end, old.retires_at or end))
            transaction.put_key(new, None, "key.create")
            if retired != old:  # an earlier rotation may have set an end that is no later
                transaction.put_key(retired, old, "key.rotate")
        return new, secret

    @contextmanager
    def _transaction(self, actor: Actor, now: int) -> Iterator[tuple[Transaction, ApiKey | None]]:
        """Open a transaction for `actor`; give with it the actor's key, None if it needs none.

        The guard has accepted the key, but it may have been revoked while the write waited for
        others; a failover or a restore may have lost it.
        """
        with self.store.transaction(actor=actor, now=now) as transaction:
            if actor.kid is None:
                yield transaction, None
                return
            acting = transaction.key(actor.kid)
            if acting is None or not acting.is_accepted(now):
                state = "unknown" if acting is None else acting.state(now)
                raise InvalidKey(keys.mask(f"ro_{actor.kid}_"), state, actor.kid)
            yield transaction, acting


def _latest_end(acting: ApiKey | None, key: ApiKey) -> int | None:
    """Return the latest end that the successor or new key `key` may have, None if it needs none.

    Else a stolen admin key could create a key that outlives it.
    """
    return None if acting is None or ADMIN not in key.scopes else acting.ends_at


def _compose(checked: Mapping[str, Any], now: int, stored: Model | None) -> Model:
    """Return the entry with these fields, or raise `ValidationFailed`."""
    fields = resolve_mirrors(checked, stored)
    check_together(fields)
    return Model.compose(fields, now=now, stored=stored)


def _find(transaction: Transaction, model_id: str) -> Model:
    """Return the entry with this id, or raise `ModelNotFound`."""
    holder = transaction.models_of([model_id]).get(model_id)
    if holder is None:
        raise ModelNotFound(model_id)
    if holder.id != model_id:
        raise ModelNotFound(model_id, holder=holder.id)
    return holder


def _find_key(transaction: Transaction, kid: str) -> ApiKey:
    """Return the key with this id, or raise `KeyNotFound`."""
    key = transaction.key(kid)
    if key is None:
        raise KeyNotFound(kid)
    return key


def _check_future(expires_at: int | None, now: int) -> None:
    """Raise `ValidationFailed` for an expiry that is over."""
    if expires_at is not None and expires_at <= now:
        sentence = (
            f"Must be in the future, not {expires_at} (Unix seconds), which is "
            f"{rfc3339(expires_at)}."
        )
        raise ValidationFailed({"expires_at": [sentence]})


def _end(key: ApiKey) -> float:
    return inf if key.ends_at is None else key.ends_at


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
    warnings = _check_replacement(transaction, model, stored)
    written = transaction.put_model(model, stored)
    return Written(written, is_new=stored is None, is_changed=True, warnings=warnings)


def _check_replacement(
    transaction: Transaction, model: Model, stored: Model | None
) -> Sequence[str]:
    """Return a warning if the replacement of `model` is no entry: it may be added later.

    Raises `ValidationFailed` if the replacements, from one to the next, never end. What `stored`
    has already is not checked again: then any other write of it would be refused.
    """
    field, name = "deprecation_replacement_model", model.deprecation_replacement_model
    if (
        stored is not None
        and stored.deprecation_replacement_model == name
        and {*model.ids} <= {*stored.ids}
    ):
        return ()
    path: list[str] = []
    passed: set[str] = set()
    while name is not None:
        path.append(name)
        found = transaction.models_of([name]).get(name)
        if name in model.ids or (found is not None and found.id in passed):
            where = "back to this entry" if name in model.ids else "into a circle"
            shown_path = " -> ".join(map(shown, path))
            raise ValidationFailed({field: [f"Must not lead {where}: {shown_path}."]})
        if len(path) > MAX_CHAIN:
            sentence = f"Must lead to an end in at most {MAX_CHAIN} steps, one replacement each."
            raise ValidationFailed({field: [sentence]})
        if found is None or found.id == model.id:  # `stored` under a name that `model` gives up
            break
        passed.add(found.id)
        name = found.deprecation_replacement_model
    if len(path) == 1 and found is None:
        return [f"{field}: '{shown(path[0])}' is no entry yet; no reader is referred to it."]
    return ()


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
