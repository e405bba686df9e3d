"""The changes of keys."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

from app.administration.transactions import Transactions
from app.catalog import keys
from app.catalog.errors import KeyEnded, KeyNotFound, LastAdminKey, ValidationFailed
from app.catalog.keys import ADMIN, ApiKey
from app.catalog.lifecycle import rfc3339
from app.catalog.ports import Actor, Transaction
from app.schemas import KeySchema, RotationSchema, check

_KEY = KeySchema()
_KEY_PATCH = KeySchema(only=("name", "groups", "expires_at"), partial=True)
_FIXED = _KEY.fields.keys() - _KEY_PATCH.fields.keys()
_ROTATION = RotationSchema()


class KeyChanges(Transactions):
    """The changes of keys."""

    __slots__ = ()

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


def _latest_end(acting: ApiKey | None, key: ApiKey) -> int | None:
    """Return the latest end that the successor or new key `key` may have, None if it needs none.

    Else a stolen admin key could create a key that outlives it.
    """
    return None if acting is None or ADMIN not in key.scopes else acting.ends_at


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
