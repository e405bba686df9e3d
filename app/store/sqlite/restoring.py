"""Replace a SQLite file, which no process has open, by a backup."""

import fcntl
import glob
import os
import time
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.catalog.ports import Actor
from app.store.backend import OPEN_TIMEOUT, Restored
from app.store.copying import contents
from app.store.files import check_own, new_file, numbered, own_file, sync_folder
from app.store.schema import begin_history
from app.store.sqlite.backup import MAX_REVISION, copy_backup
from app.store.sqlite.connection import create_engine, sqlite
from app.store.sqlite.locks import IN_USE
from app.store.sqlite.previous_keys import carry_over, read_previous
from app.store.sqlite.wal import check_pair, damage, read_uri
from app.store.tables import catalogue

#: The files of SQLite beside a database that is in use, or was when its process was killed.
_COMPANIONS = ("-wal", "-shm", "-journal")
#: The suffixes of a new database and of a replaced one.
_DRAFT, _PREVIOUS = ".restoring", ".before-restore-"
#: Length and offset of the bytes that SQLite locks while it reads a file, and in WAL mode while it
#: is open: https://sqlite.org/fileformat2.html#the_lock_byte_page
_SHARED = 510, 0x40000002


def restore(path: Path, source: Path, now: float, *, actor: Actor, revive_keys: bool) -> Restored:
    """Replace the database `path` by the backup `source`.

    Nothing is changed before a checked copy with our schema and a new mark is complete. Keys stay
    revoked, and rotated, unless `revive_keys`. The replaced database stays beside the new one,
    under a name with the time `now` (Unix seconds). Raises `StoreRefused` for a file that is no
    backup of ours, and `OSError`.
    """
    for companion in _COMPANIONS:
        if source.with_name(source.name + companion).exists():
            raise StoreRefused(
                f"{source} is in use, or was when its process was killed: a backup is made of it "
                "by 'flask db backup'."
            )
    check_files(path)
    _refuse_users(path)
    previous = read_previous(path, int(now))
    draft = path.with_name(path.name + _DRAFT)
    try:
        with new_file(draft) as unnamed:
            engine = create_engine(unnamed)
            try:
                with engine.begin() as connection:
                    # The higher one counts: no revision may be given to two states.
                    highest = max(MAX_REVISION, previous.revision)
                    revision = max(copy_backup(source, connection, highest), previous.revision)
                    connection.execute(sa.update(catalogue).values(revision=revision))
                    keys = carry_over(
                        connection, previous, actor=actor, now=int(now), revive=revive_keys
                    )
                    begin_history(connection)
                    restored = contents(connection)
            except sa.exc.OperationalError as error:
                raise StoreUnavailable(
                    f"No database can be written in {path.parent} ({error.orig}): nothing was "
                    "changed."
                ) from error
            finally:
                engine.dispose()
                for companion in _COMPANIONS:
                    unnamed.with_name(unnamed.name + companion).unlink(missing_ok=True)
            _copy_access(unnamed, path)
        replaced = _rename(path, now)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return Restored(restored.revision, restored.entries, replaced, keys)


def check_files(path: Path) -> None:
    """Raise `StoreRefused` unless a database and the files of SQLite beside it are ours.

    No process may have it open. What a killed restore has left is removed: its draft, and a second
    name of the database, under which SQLite would make another write-ahead log.
    """
    path.with_name(path.name + _DRAFT).unlink(missing_ok=True)
    found = check_own(path, links=2)
    for previous in path.parent.glob(f"{glob.escape(path.name)}{_PREVIOUS}*"):
        if found is not None and os.path.samestat(previous.lstat(), found):
            previous.unlink()
    for companion in ("", *_COMPANIONS):
        check_own(path.with_name(path.name + companion))


def _refuse_users(path: Path) -> None:
    """Raise `StoreRefused` while another process has a file in WAL mode open.

    SQLite's own lock is tried, because the file of `UseLock` may have been removed.
    """
    try:
        with own_file(path, os.O_RDWR) as descriptor:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SHARED)
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        raise StoreRefused(IN_USE) from error


def check_pages(path: Path) -> None:
    """Raise `StoreRefused` if SQLite finds damage in a file, which is not changed."""
    deadline = time.monotonic() + OPEN_TIMEOUT
    while True:
        try:
            found = damage(read_uri(path))
            break
        except sqlite.OperationalError as error:
            # Another start sets the journal mode, for which SQLite does not let others wait.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if found is not None:
        raise StoreRefused(damaged(path, found))


def damaged(path: Path, found: str) -> str:
    """Return what to do about a database in which SQLite has `found` damage."""
    return (
        f"The database {path} is damaged ({found}): 'flask db restore FILE' puts a backup in its "
        "place."
    )


def _copy_access(draft: Path, path: Path) -> None:
    """Give a new file the group and the mode of the one that it replaces."""
    model = path if path.exists() else path.parent
    stat = model.stat()
    with suppress(PermissionError):
        os.chown(draft, -1, stat.st_gid)
    draft.chmod(stat.st_mode & 0o660 if model is path else 0o640)


def _rename(path: Path, now: float) -> Path | None:
    with suppress(StoreRefused, sqlite.Error, UnicodeDecodeError):
        check_pair(path)
        # The write-ahead log of a killed process is written into the file and emptied.
        with closing(sqlite.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as sql:
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for previous in numbered(path.with_name(f"{path.name}{_PREVIOUS}{moment}")):
        if any(Path(f"{previous}{companion}").exists() for companion in _COMPANIONS):
            continue
        with suppress(FileExistsError):
            if path.exists():
                os.link(path, previous)
            break
    for companion in _COMPANIONS:  # a log that could not be written stays with its file
        with suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(f"{previous}{companion}")
    return previous if previous.exists() else None
