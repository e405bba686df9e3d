"""The lock of all processes that have the database open: none replaces it under another."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.catalog.errors import StoreRefused, StoreUnavailable
from app.store.backend import OPEN_TIMEOUT
from app.store.files import own_file
from app.store.sqlite.locks import POLL, try_lock

#: What a command is told that would replace the database under others.
IN_USE = "Servers or commands have the database open: stop them, then try again."


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
        self._file = ExitStack()

    def enter(self) -> bool:
        """Take the shared lock, until `leave` or the process's end; the first process checks.

        Return whether this process did not have it yet.
        """
        with self._mutex:
            if self._process == os.getpid():
                return False
            self._file.close()  # after a fork it is the parent's: ours to close, not to rely on
            deadline = time.monotonic() + OPEN_TIMEOUT
            with ExitStack() as stack:
                descriptor = stack.enter_context(own_file(self._path))
                while True:
                    if try_lock(descriptor, fcntl.LOCK_EX):
                        self._check()  # also after a wait: the other process may have refused it
                    if try_lock(descriptor, fcntl.LOCK_SH):
                        break
                    if time.monotonic() > deadline:
                        raise StoreUnavailable("Another process checks or restores the database.")
                    time.sleep(POLL)
                self._process, self._file = os.getpid(), stack.pop_all()
                return True

    def leave(self) -> None:
        """Release the lock."""
        with self._mutex:
            self._process = 0
            self._file.close()

    @contextmanager
    def alone(self, refusal: str = IN_USE) -> Iterator[None]:
        """Hold the lock alone; raise `StoreRefused` while any other process holds it."""
        with own_file(self._path) as descriptor:
            if not try_lock(descriptor, fcntl.LOCK_EX):
                raise StoreRefused(refusal)
            yield
