"""Copy the rows of a backup, an untrusted file, into a new database.

Only rows are copied. The schema is compared before any table is read. Each row is checked while it
is copied, so a file that is replaced meanwhile is checked as well.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.catalog.errors import RosterError, StoreRefused, StoreUnavailable, quote
from app.catalog.keys import parse_kid
from app.fields import MAX_TIME
from app.store.aliases import index_aliases
from app.store.documents import check_key, check_model, parse_untrusted, read_source
from app.store.schema import HEAD, migrate, upgrade
from app.store.sqlite.connection import sqlite
from app.store.tables import catalogue, changes, keys, models, sources

#: How long reading the schema of a file may take, in seconds; ours takes a thousandth.
_PATIENCE = 2.0
#: After how many steps of SQLite the time is checked.
_STEPS = 10_000
#: The highest revision that a backup may have: thousands of years of writes below 2**53, above
#: which readers of JSON round numbers.
MAX_REVISION = 2**52
#: How many rows are in memory at a time; each may be a megabyte.
_BATCH = 20
_STAMP = "SELECT version_num FROM alembic_version"
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master"
# The tables of ANALYZE, which are not copied.
_STATISTICS = {
    ("table", name, name, f"CREATE TABLE {name}({columns})")
    for name, columns in (
        ("sqlite_stat1", "tbl,idx,stat"),
        ("sqlite_stat4", "tbl,idx,neq,nlt,ndlt,sample"),
    )
}

# White space for SQLite: other such characters are parts of names.
_SPACE = re.compile(r"[ \t\n\f\r]+")
#: The longest text of a line in the log but for its documents, in characters.
_MAX_TEXT = 1000

_Schema = set[tuple[str, ...]]
_Row = Mapping[str, Any]


@contextmanager
def open_untrusted(uri: str) -> Iterator[Any]:
    """Connect to an untrusted file; what reads it is interrupted after `_PATIENCE`.

    The caller removes the progress handler once the schema is checked.
    """
    with closing(sqlite.connect(uri, uri=True)) as connection:
        connection.row_factory = sqlite.Row
        connection.execute("PRAGMA trusted_schema=OFF")  # views call no function with side effects
        deadline = time.monotonic() + _PATIENCE
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        yield connection


def copy_backup(source: Path, target: sa.Connection, highest: int) -> int:
    """Copy the rows of the backup `source` into the empty database `target`, and upgrade it.

    Returns the revision, at most `highest`. Raises `StoreRefused` for a file that is not a whole
    backup of ours, and SQLAlchemy's errors for what is wrong with `target`.
    """
    if not source.is_file():
        raise StoreRefused(f"{source} is no file: a backup is one that 'flask db backup' made.")
    source.open("rb").close()  # the error of the system says more than SQLite's
    try:
        # Nobody else has it open; without this, SQLite would write two files beside it.
        with open_untrusted(f"{source.absolute().as_uri()}?mode=ro&immutable=1") as backup:
            _match_schema(backup, target)
            backup.set_progress_handler(None, 0)  # copying a large file takes longer
            _check_pages(backup)
            revision = _copy(backup, target, highest)
    except StoreRefused as error:
        raise StoreRefused(f"{source} cannot be restored: {error.reason}.") from error
    except (sqlite.Error, sa.exc.IntegrityError, UnicodeDecodeError) as error:
        reason = _line(getattr(error, "orig", error))
        if reason == "interrupted":
            reason = f"its schema takes longer than {_PATIENCE:g} seconds"
        raise StoreRefused(f"{source} is no whole backup of Roster: {reason}.") from error
    upgrade(target)
    index_aliases(target)
    return revision


def _match_schema(backup: Any, target: sa.Connection) -> None:
    """Migrate `target` to the schema of the backup; raise `StoreRefused` if it is not ours."""
    found = _schema(backup.execute(_SCHEMA)) - _STATISTICS
    migrate(target, 1)
    ours = _schema(target.exec_driver_sql(_SCHEMA))
    stamp = {entry for entry in ours if entry[2] == "alembic_version"}
    if not stamp <= found:
        raise StoreRefused("it has no schema of Roster")
    stamps = [version for (version,) in backup.execute(_STAMP)]
    if len(stamps) != 1 or not re.fullmatch("0*[1-9][0-9]{0,8}", str(stamps[0])):
        raise StoreRefused(f"its schema is another program's: {quote(stamps)}")
    number = int(stamps[0])
    _check_number(number)
    migrate(target, number)
    expected = _schema(target.exec_driver_sql(_SCHEMA))
    wrong = found - expected
    # In this order triggers, views and tables come before what SQLite adds to them.
    for kind, name, table, _ in sorted(wrong or expected - found, reverse=True):
        where = "" if name == table else f" of '{quote(table)}'"
        state = f"not one of schema {number}" if wrong else f"missing: schema {number} has it"
        raise StoreRefused(f"its {quote(kind)} '{quote(name)}'{where} is {state}")


def _check_number(schema: int) -> None:
    if schema > HEAD:
        raise StoreRefused(
            f"it has schema {schema}, this program knows schemas up to {HEAD}: "
            "restore it with the newer program"
        )


def _check_pages(backup: Any) -> None:
    """Raise `StoreRefused` for damage: a tree with a loop would be read for ever."""
    [(found,)] = backup.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        raise StoreRefused(f"it is damaged ({_line(found)})")


def _schema(rows: Iterable[Iterable[object]]) -> _Schema:
    # Versions of SQLAlchemy differ in white space, and the first of ours did not quote "only".
    return {
        tuple(_SPACE.sub(" ", str(value).replace("(only =", '("only" =')) for value in row)
        for row in rows
    }


def _copy(backup: Any, target: sa.Connection, highest: int) -> int:
    """Copy all rows, each checked, and return the revision of the backup."""
    states = [dict(row) for row in backup.execute("SELECT * FROM catalogue").fetchmany(2)]
    if len(states) != 1 or not is_whole(states[0]["revision"]):
        raise StoreRefused("its catalogue is not one row with a revision")
    [state] = states
    revision: int = state["revision"]
    if revision > highest:
        raise StoreRefused(
            f"its revision {revision} is above {highest}, which no number of writes reaches: "
            "another program has set it"
        )
    oldest = state.get("oldest_schema", 1)
    if not is_whole(oldest, 1):
        raise StoreRefused("its catalogue has an oldest_schema that is no number")
    _check_number(oldest)
    if not is_whole(state.get("pruned", 0), 0, revision):
        raise StoreRefused(f"its catalogue has a pruned that is not one of 0 to {revision}")
    names = ("revision", "oldest_schema", "pruned")
    known = {name: state[name] for name in names if name in state}
    target.execute(sa.update(catalogue).values(**known))
    checks: dict[sa.Table, Callable[[_Row, int], object]] = {
        models: partial(_check_model, {}),
        keys: lambda row, _: check_key(row["kid"], row["digest"], row["document"]),
        changes: _check_change,
    }
    if backup.execute(f"PRAGMA table_info({sources.name})").fetchone() is not None:
        checks[sources] = lambda row, _: read_source(*row.values())  # else of an older schema
    for table, check in checks.items():
        rows = backup.execute(f"SELECT * FROM {table.name}")  # noqa: S608
        marks = ", ".join("?" * len(rows.description))
        checked = _checked(rows, table.name, check, revision)
        while batch := list(islice(checked, _BATCH)):
            target.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({marks})", batch)  # noqa: S608
    return revision


def _checked(
    rows: Any, table: str, check: Callable[[_Row, int], object], revision: int
) -> Iterator[tuple[object, ...]]:
    for row in rows:
        try:
            check(dict(row), revision)
        except RosterError as error:
            reason = error.reason if isinstance(error, StoreUnavailable) else str(error)
            raise StoreRefused(
                f"in {table}, the row {quote(repr(row[0]))} is wrong: {_line(reason)}"
            ) from error
        yield tuple(row)


def _check_model(holders: dict[str, str], row: _Row, revision: int) -> None:
    """Check an entry, and that no alias is of two; `holders` has those of the rows before.

    An alias may be the id of another entry, which a release without aliases has added.
    """
    if not is_whole(row["revision"], 1, revision):
        raise StoreUnavailable(f"Its revision is not one of 1 to {revision}.")
    model = check_model(row["document"], row["revision"])
    if model.id != row["id"]:
        raise StoreUnavailable("Its document has another id.")
    for alias in model.aliases or ():
        if alias == model.id:
            raise StoreUnavailable("Its own id is one of its aliases.")
        if (holder := holders.setdefault(alias, model.id)) != model.id:
            raise StoreUnavailable(
                f"Its alias '{quote(alias)}' is an alias of the model '{quote(holder)}' as well."
            )


def _check_change(row: _Row, revision: int) -> None:
    """Check a line of the log; its documents may have fields of earlier programs."""
    numbers = {"revision": (1, revision), "at": (0, MAX_TIME), "batch": (1, row["revision"])}
    for name, value in row.items():
        if value is None and changes.c[name].nullable:
            continue
        if name in numbers:
            least, most = numbers[name]
            if not is_whole(value, least, most):
                raise StoreUnavailable(f"Its {name} is not one of {least} to {most}.")
        elif name in ("before", "after"):
            parse_untrusted(value)
        elif not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
            raise StoreUnavailable(f"Its {name} is no printable text of up to {_MAX_TEXT}.")
        elif parse_kid(value) is not None:
            raise StoreUnavailable(f"Its {name} is an API key.")


def is_whole(value: object, least: int = 0, most: int = 2**63 - 1) -> bool:
    """Return whether `value` is an integer from `least` to `most`."""
    return type(value) is int and least <= value <= most


def _line(reason: object) -> str:
    return quote(" ".join(str(reason).split()), 200).rstrip(".")
