"""A backup that takes the place of a SQLite file which nobody has open."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from app.catalog.errors import StoreRefused
from app.store.database import OPEN_TIMEOUT, Restored
from app.store.engine import create_engine, sqlite
from app.store.files import new_file, numbered, sync_folder
from app.store.schema import HEAD, begin_history, check_program, schema_number, upgrade
from app.store.tables import catalogue, metadata, models
from app.store.wal import check_pair, read_uri

#: What SQLite keeps beside a file that is in use, or that was when its process was killed.
_COMPANIONS = ("-wal", "-shm", "-journal")


def restore(path: Path, source: Path, now: float) -> Restored:
    """Put a copy of the backup `source` in the place of the database `path`.

    Nothing is changed before the copy is found whole and ours, and has our schema and a mark of
    its own. The database before it stays beside it, under a name with the time `now` (Unix
    seconds). Raises `StoreRefused` for a file that is no backup of ours, and `OSError`.
    """
    for companion in _COMPANIONS:
        if source.with_name(source.name + companion).exists():
            raise StoreRefused(
                f"{source} is in use, or was when its process was killed: a backup is made of it "
                "by 'flask db backup'."
            )
    draft = path.with_name(path.name + ".restoring")
    draft.unlink(missing_ok=True)  # of a crash
    try:
        with new_file(draft) as unnamed:
            shutil.copyfile(source, unnamed)
            revision, entries = _adopt(unnamed, source, least=_revision(path))
            _own(unnamed, path)
        kept = _keep(path, now)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return Restored(revision, entries, kept)


def check(path: Path) -> None:
    """Raise `StoreRefused` when SQLite finds damage in a file; nothing of it is changed."""
    deadline = time.monotonic() + OPEN_TIMEOUT
    while True:
        try:
            with closing(sqlite.connect(read_uri(path), uri=True)) as connection:
                [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
            break
        except sqlite.OperationalError as error:
            # Another start is choosing the journal, which does not let others wait.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        except (sqlite.DatabaseError, UnicodeDecodeError) as error:
            found = str(error)
            break
    if found != "ok":
        raise StoreRefused(
            f"The database {path} is damaged ({' '.join(found.split())}): "
            "'flask db restore FILE' puts a backup in its place."
        )


def _revision(path: Path) -> int:
    """Return the revision of the database that is to be replaced, 0 if it has none to tell."""
    with (
        suppress(sqlite.Error, UnicodeDecodeError),
        closing(sqlite.connect(read_uri(path), uri=True)) as connection,
    ):
        row = connection.execute("SELECT revision FROM catalogue").fetchone()
        return 0 if row is None else int(row[0])
    return 0


def _adopt(draft: Path, source: Path, *, least: int) -> tuple[int, int]:
    """Check a copy of `source` and make it a history of its own; return revision and entries.

    It goes on from revision `least` or its own: none is ever given to two states.
    """
    with _no_backup(source), closing(sqlite.connect(draft)) as connection:
        found = connection.execute("PRAGMA quick_check").fetchall()
        if found != [("ok",)]:
            raise sqlite.DatabaseError(str(found[0][0]))
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, until a server opens it
    engine = create_engine(draft)
    try:
        with (
            _no_backup(source),
            engine.begin() as connection,
        ):
            number = schema_number(connection)
            if number is None:
                raise StoreRefused(f"{source} is no backup of Roster: it has no schema.")
            if number > HEAD:
                check_program(connection, number)
            upgrade(connection)
            for table in metadata.sorted_tables:
                connection.execute(sa.select(table).limit(1))
            own: int = connection.execute(sa.select(catalogue.c.revision)).scalar_one()
            revision = max(own, least)
            connection.execute(sa.update(catalogue).values(revision=revision))
            begin_history(connection)
            count = sa.select(sa.func.count()).select_from(models)
            return revision, connection.execute(count).scalar_one()
    finally:
        engine.dispose()
        for companion in _COMPANIONS:
            draft.with_name(draft.name + companion).unlink(missing_ok=True)


@contextmanager
def _no_backup(source: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite.DatabaseError, sa.exc.SQLAlchemyError, UnicodeDecodeError) as error:
        reason = getattr(error, "orig", error)
        raise StoreRefused(f"{source} is no whole backup of Roster: {reason}.") from error


def _own(draft: Path, path: Path) -> None:
    # Root may restore for a server that runs as somebody else.
    model = path if path.exists() else path.parent
    stat = model.stat()
    with suppress(PermissionError):
        os.chown(draft, stat.st_uid, stat.st_gid)
    draft.chmod(stat.st_mode & 0o666 if model is path else 0o640)


def _keep(path: Path, now: float) -> Path | None:
    with suppress(StoreRefused, sqlite.Error, UnicodeDecodeError):
        check_pair(path)
        # What is only in the log of a killed process goes into the file; the log goes.
        with closing(sqlite.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as sql:
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for kept in numbered(path.with_name(f"{path.name}.before-restore-{moment}")):
        if any(Path(f"{kept}{companion}").exists() for companion in _COMPANIONS):
            continue
        with suppress(FileExistsError):
            if path.exists():
                os.link(path, kept)
            break
    for companion in _COMPANIONS:  # those that are not in the file keep its new name
        with suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(f"{kept}{companion}")
    return kept if kept.exists() else None
