"""The lock of all processes that have the database open: none replaces it under another."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.store.database import OPEN_TIMEOUT
from app.store.lock import POLL, try_lock


class Presence:
    """A lock on a file beside the database, which all processes share that have it open.

    The first of them calls `check` before any has it open; others wait for the check, which
    reads the whole log, and for a restore.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._path = path
        self._check = check
        self._mutex = threading.Lock()
        self._process = 0
        self._descriptor: int | None = None

    def enter(self) -> None:
        """Take the shared lock, until `leave` or the process's end; the first process checks."""
        with self._mutex:
            if self._process == os.getpid():
                return
            self._close()  # after a fork it is the parent's: ours to close, and not to rely on
            deadline = time.monotonic() + OPEN_TIMEOUT
            with ExitStack() as stack:
                descriptor = self._open()
                stack.callback(os.close, descriptor)
                while True:
                    if try_lock(descriptor, fcntl.LOCK_EX):
                        self._check()  # also after a wait: the other process may have refused it
                    if try_lock(descriptor, fcntl.LOCK_SH):
                        break
                    if time.monotonic() > deadline:
                        raise StoreUnavailable("Another process checks or restores the database.")
                    time.sleep(POLL)
                stack.pop_all()
            self._process, self._descriptor = os.getpid(), descriptor

    def leave(self) -> None:
        """Release the lock."""
        with self._mutex:
            self._process = 0
            self._close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone; raise `StoreRefused` while any other process holds it."""
        descriptor = self._open()
        try:
            if not try_lock(descriptor, fcntl.LOCK_EX):
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
