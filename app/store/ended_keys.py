"""Keys that were revoked or rotated since a backup: none works again because it is restored."""

from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import RosterError, quote
from app.catalog.keys import ApiKey
from app.catalog.ports import Actor
from app.store.adopting import MAX_REVISION, foreign, is_whole
from app.store.database import KeysBefore
from app.store.documents import check_key, read_key
from app.store.engine import sqlite
from app.store.tables import keys
from app.store.transaction import SqlTransaction, first_statement
from app.store.wal import read_uri


@dataclass(frozen=True, slots=True)
class Before:
    """What is to be known of the database that is replaced, as far as it can be read."""

    revision: int = 0
    keys: tuple[ApiKey, ...] = ()
    #: Why not all of it is known.
    problem: str | None = None


def look(path: Path) -> Before:
    """Return what there is in the database `path`, which may be damaged or tampered with."""
    if not path.exists():
        return Before(problem="there was no database")
    revision, found, problem = 0, [], None
    try:
        with foreign(read_uri(path)) as sql:
            for (value,) in sql.execute("SELECT revision FROM catalogue").fetchmany(1):
                revision = value if is_whole(value, 0, MAX_REVISION) else 0
            rows = sql.execute("SELECT kid, digest, document FROM keys").fetchall()
    except (sqlite.Error, UnicodeDecodeError) as error:
        return Before(revision, problem=quote(" ".join(str(error).split()), 200))
    for row in rows:
        try:
            found.append(check_key(*row))
        except RosterError:
            problem = f"the key '{quote(row[0])}' is malformed"
    return Before(revision, tuple(found), problem)


def end_again(
    connection: sa.Connection, before: Before, *, actor: Actor, now: int, revive: bool
) -> KeysBefore:
    """Revoke what is revoked `before`, unless `actor` wants to `revive` it; return what changed.

    A rotated key gets the end that it had; each change has a line in the log.
    """
    stored = {key.kid: key for key in starmap(read_key, connection.execute(sa.select(keys)))}
    both = [(stored[key.kid], key) for key in before.keys if key.kid in stored]
    pairs = [(key, ended) for key, was in both if (ended := _as_ended(key, was)) != key]
    known = {(key.kid, key.digest) for key in before.keys}
    found = KeysBefore(
        revived=[key for key, _ in pairs] if revive else (),
        gone=[key for key in before.keys if key.kid not in stored and key.state(now) == "active"],
        added=[key for key in stored.values() if known and (key.kid, key.digest) not in known],
        problem=before.problem,
    )
    revoked: list[ApiKey] = []
    rotated: list[ApiKey] = []
    if pairs and not revive:
        transaction = SqlTransaction(connection, first_statement(sa.null()), actor=actor, now=now)
        for key, ended in pairs:
            is_revoked = ended.revoked_at != key.revoked_at
            transaction.put_key(ended, key, "key.revoke" if is_revoked else "key.rotate")
            (revoked if is_revoked else rotated).append(ended)
    return replace(found, revoked=revoked, rotated=rotated)


def _as_ended(key: ApiKey, before: ApiKey) -> ApiKey:
    ends = [end for end in (key.retires_at, before.retires_at) if end is not None]
    revoked_at = before.revoked_at if key.revoked_at is None else key.revoked_at
    return replace(key, retires_at=min(ends, default=None), revoked_at=revoked_at)
