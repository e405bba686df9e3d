"""The write-ahead log beside a SQLite file, and the check that the two belong together.

SQLite does not check it: it writes any log of the right name into the file.
"""

from contextlib import closing, suppress
from pathlib import Path

from app.catalog.errors import StoreRefused
from app.store.sqlite.connection import sqlite

#: The size of a file without tables, in bytes: one page of SQLite.
NO_TABLES = 4096
#: Of one row, so of one page: a killed checkpoint leaves any pages of the log in the file.
_HISTORY = "SELECT lineage, revision FROM catalogue"


def wal_of(path: Path) -> Path:
    """Return the path of the write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def has_content(wal: Path) -> bool:
    """Return whether a write-ahead log exists and is not empty."""
    return wal.exists() and wal.stat().st_size > 0


def read_uri(path: Path) -> str:
    """Return a URI with which SQLite reads a database and does not write its log into it."""
    # If there is no log, "ro" would leave an empty one.
    return f"{path.absolute().as_uri()}?mode={'ro' if has_content(wal_of(path)) else 'rw'}"


def check_pair(path: Path, *, unfinished: bool = False) -> None:
    """Raise `StoreRefused` unless the file and its write-ahead log belong together.

    No process may have the database open. Nothing is changed. `unfinished` means that a writer
    was killed: it may be the one that was making the file and had not made the log yet.
    """
    wal = wal_of(path)
    size = path.stat().st_size if path.exists() else 0
    if not size and has_content(wal):
        found, missing, left = f"{path} is missing or empty, and {wal.name} exists", path, wal
    elif size == NO_TABLES and not wal.exists() and not unfinished and _is_wal(path):
        found, missing, left = f"{path} has no tables, and {wal.name} is missing", wal, path
    elif has_content(wal) and _is_foreign(path):
        raise StoreRefused(
            f"{wal} is the write-ahead log of another database than {path.name}, or of another "
            f"state of it. Nothing was changed. Copy both files first, then move {wal.name} away, "
            f"or put the database of {wal.name} back."
        )
    else:
        return
    raise StoreRefused(
        f"{found}: the two belong together. Copy {left.name} first, then put {missing.name} back, "
        f"or run 'flask db restore FILE'. To start with an empty catalogue, move {left.name} away."
    )


def _is_wal(path: Path) -> bool:
    """Return whether the header of a file has the version of WAL mode."""
    return path.read_bytes()[18] == 2  # noqa: PLR2004 - https://sqlite.org/fileformat2.html


def _is_foreign(path: Path) -> bool:
    """Compare a file without its log to the same file with it.

    A log that belongs to the file leaves it undamaged, with its lineage and no earlier revision.
    Only an upgrade in the log changes the lineage, and the schema with which a lineage begins.
    Lineages without a schema, of earlier programs, are not compared.
    """
    alone, together = f"{path.absolute().as_uri()}?immutable=1", read_uri(path)
    if not _is_whole(together):
        return _is_whole(alone)  # otherwise the file is damaged with any log
    before, after = _history(alone), _history(together)
    if before is None or after is None:
        return False
    (lineage, revision), (new_lineage, new_revision) = before, after
    if lineage.partition("-")[0] != new_lineage.partition("-")[0]:
        return False
    return lineage != new_lineage or revision > new_revision


def damage(uri: str) -> str | None:
    """Return the damage that SQLite finds, if any: a tenth of a second for 100,000 entries."""
    try:
        with closing(sqlite.connect(uri, uri=True)) as connection:
            [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite.OperationalError:  # not about the content of the file
        raise
    except (sqlite.DatabaseError, UnicodeDecodeError) as error:
        found = str(error)
    return None if found == "ok" else " ".join(found.split())


def _is_whole(uri: str) -> bool:
    try:
        return damage(uri) is None
    except sqlite.OperationalError:
        return True


def _history(uri: str) -> tuple[str, int] | None:
    with suppress(sqlite.Error, UnicodeDecodeError), closing(sqlite.connect(uri, uri=True)) as sql:
        row: tuple[str, int] | None = sql.execute(_HISTORY).fetchone()
        return row
    return None
