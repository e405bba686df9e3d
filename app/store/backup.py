"""A copy of the database while it is in use: SQLite's backup API, and a file that is whole."""

import os
import tempfile
from pathlib import Path

import sqlalchemy as sa

from app.store.engine import outages_translated, sqlite


def write_copy(engine: sa.Engine, target: Path) -> None:
    """Write what the database holds now to `target`, durably, for its owner alone.

    Raises `FileExistsError` rather than replace anything, and any other `OSError` of `target`.
    """
    descriptor, draft = tempfile.mkstemp(prefix=".roster-", dir=target.parent)
    try:
        with outages_translated(), engine.connect() as connection:
            copy = sqlite.connect(draft)
            try:
                connection.connection.driver_connection.backup(copy)  # type: ignore[union-attr]
            finally:
                copy.close()
        os.fsync(descriptor)
        os.link(draft, target)
    finally:
        os.close(descriptor)
        Path(draft).unlink()
