"""The keys of the database that a backup replaces: those revoked there stay revoked."""

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import RosterError, quote
from app.catalog.keys import ApiKey
from app.catalog.ports import Actor
from app.fields import MAX_TIME
from app.store.backend import RestoredKeys
from app.store.documents import check_key, read_key
from app.store.sqlite.backup import is_whole, open_untrusted
from app.store.sqlite.connection import sqlite
from app.store.sqlite.wal import read_uri
from app.store.tables import keys
from app.store.transaction import SqlTransaction

# Views, virtual tables and generated columns may run without end.
_IS_TABLE = """SELECT count(*) = 3 FROM sqlite_master AS t, pragma_table_xinfo(t.name) AS c
WHERE t.name = 'keys' AND t.type = 'table' AND t.rootpage > 0
AND c.name IN ('kid', 'digest', 'document') AND c.hidden = 0"""
_KEYS = "SELECT kid, digest, document FROM keys WHERE typeof(kid) = 'text'"


@dataclass(frozen=True, slots=True)
class Previous:
    """The readable part of the database that is replaced."""

    revision: int = 0
    #: By kid.
    keys: dict[str, ApiKey] = field(default_factory=dict)
    #: The reason why keys may be missing.
    problem: str | None = None


def read_previous(path: Path, now: int) -> Previous:
    """Return the revision and the keys of the database `path`, however damaged it is.

    A key whose revocation cannot be read is revoked `now`.
    """
    if not path.exists():
        return Previous(problem="there was no database")
    revision, found, problem = 0, {}, None
    try:
        with open_untrusted(read_uri(path)) as sql:
            sql.text_factory = lambda text: text.decode(errors="replace")
            [(is_table,)] = sql.execute(_IS_TABLE)
            if not is_table:
                problem = "the database before has no table of keys"
            with suppress(sqlite.Error, UnicodeDecodeError):  # the keys may be whole
                for (value,) in sql.execute("SELECT revision FROM catalogue").fetchmany(1):
                    revision = value if is_whole(value, most=2**62) else 0  # writes add to it
            sql.set_progress_handler(None, 0)  # a timeout on a slow disk would revive keys
            for kid, digest, document in sql.execute(_KEYS) if is_table else ():
                if kid in found:
                    problem = "the table of keys is damaged"
                    break  # a tree with a loop would be read forever
                found[kid] = _read_leniently(kid, digest, document, now)
    except (sqlite.Error, UnicodeDecodeError) as error:  # of a message that is no UTF-8
        problem = quote(" ".join(str(error).split()), 200)
    return Previous(revision, found, problem)


def carry_over(
    connection: sa.Connection, previous: Previous, *, actor: Actor, now: int, revive: bool
) -> RestoredKeys:
    """Revoke the keys that are revoked in `previous`, unless `revive`; return the differences.

    A rotated key gets the end that it had, and of two expiries the earlier counts; the log has a
    line of `actor` for each change.
    """
    stored = {key.kid: key for key in starmap(read_key, connection.execute(sa.select(keys)))}
    before = previous.keys
    both = [(key, before[kid]) for kid, key in stored.items() if kid in before]
    pairs = [(key, ended) for key, was in both if (ended := _as_ended(key, was)) != key]
    is_known = before or previous.problem is None
    found = RestoredKeys(
        revived=[key for key, _ in pairs] if revive else (),
        gone=[key for kid, key in before.items() if kid not in stored and key.is_accepted(now)],
        added=[key for kid, key in stored.items() if kid not in before] if is_known else (),
        changed=[key for key, was in both if _without_ends(key) != _without_ends(was)],
        problem=previous.problem,
    )
    revoked: list[ApiKey] = []
    rotated: list[ApiKey] = []
    if pairs and not revive:
        transaction = SqlTransaction(connection, sa.null(), actor=actor, now=now)
        for key, ended in pairs:
            if ended.revoked_at != key.revoked_at:
                transaction.put_key(ended, key, "key.revoke")
                revoked.append(ended)
            elif ended.retires_at != key.retires_at:
                transaction.put_key(ended, key, "key.rotate")
                rotated.append(ended)
            else:  # it is among those that changed
                transaction.put_key(ended, key, "key.update")
    return replace(found, revoked=revoked, rotated=rotated)


def _read_leniently(kid: str, digest: object, document: Any, now: int) -> ApiKey:
    """Return the key of a row; of a malformed one only its id, its name and its ends."""
    try:
        return check_key(kid, digest, document)
    except RosterError:
        pass
    try:
        members = json.loads(document)
        ends = [members["expires_at"], members["retires_at"], members["revoked_at"]]
        name = str(members.get("name", ""))
    except (KeyError, TypeError, ValueError, RecursionError):
        name, ends = "", [None, None, now]
    expires_at, retires_at, revoked_at = (
        end if end is None or is_whole(end, 0, MAX_TIME) else now for end in ends
    )
    return ApiKey(
        kid=kid,
        digest="",
        name=name,
        created=0,
        expires_at=expires_at,
        retires_at=retires_at,
        revoked_at=revoked_at,
    )


def _as_ended(key: ApiKey, before: ApiKey) -> ApiKey:
    return replace(
        key,
        expires_at=_earlier(key.expires_at, before.expires_at),
        retires_at=_earlier(key.retires_at, before.retires_at),
        revoked_at=before.revoked_at if key.revoked_at is None else key.revoked_at,
    )


def _earlier(*ends: int | None) -> int | None:
    return min((end for end in ends if end is not None), default=None)


def _without_ends(key: ApiKey) -> tuple[object, ...]:
    return replace(key, retires_at=None, revoked_at=None), key.unknown_members
