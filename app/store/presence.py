"""Who has the database open, so that nobody replaces it under a running server."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.store.lock import is_taken


class Presence:
    """A lock on a file beside the database, which all processes share that have it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._process = 0
        self._descriptor: int | None = None

    def enter(self) -> None:
        """Be one of those that have the database open, until `leave` or the process's end."""
        with self._mutex:
            if self._process == os.getpid():
                return
            self._close()  # after a fork it is the parent's: ours to close, and not to rely on
            descriptor = self._open()
            if not is_taken(descriptor, fcntl.LOCK_SH):
                os.close(descriptor)
                raise StoreUnavailable("The database is being restored just now.")
            self._process, self._descriptor = os.getpid(), descriptor

    def leave(self) -> None:
        """Have it open no longer."""
        with self._mutex:
            self._process = 0
            self._close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one; raise `StoreRefused` while there is any other."""
        descriptor = self._open()
        try:
            if not is_taken(descriptor, fcntl.LOCK_EX):
                raise StoreRefused(
                    "Servers or commands have the database open: stop them, then try again."
                )
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT, 0o644)
        # For everybody to read: a command that root has run must not shut out a server.
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o644)
        return descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
