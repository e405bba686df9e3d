"""The locks on files beside the database: one writer, and no restore or copy under others."""

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

#: How often a waiting process tries to take the lock, in seconds.
POLL = 0.0005
#: The refusal of a command that would replace or copy a database that others have open.
IN_USE = "Servers or commands have the database open: stop them, then try again."


class WriterLock:
    """A lock on a file beside the database, held by one writer at a time.

    SQLite's own waiting is not fair: with eight writers its slowest commits take a hundred
    times the median, and to change the journal mode it does not wait at all. Nor is a lock fair
    by itself: who releases it is the first to take it again, while others sleep. So there is a
    second lock, of the writer that is next: a writer takes it before it waits for the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = path.with_name(f"{path.name}.next")
        # Threads queue here, so that a process never waits for itself at the file.
        self._threads = threading.Lock()

    @contextmanager
    def held(
        self, deadline: float, before_waiting: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold the lock; raise `StoreUnavailable` at `deadline`, a time of `time.monotonic`."""
        began = time.monotonic()
        if not self._threads.acquire(blocking=False):
            before_waiting()
            if not self._threads.acquire(timeout=max(0.0, deadline - began)):
                raise self._busy(began)
        try:
            # A descriptor of its own for each holder: closing it is what unlocks.
            with own_file(self._next) as next_in_line, own_file(self.path) as lock:
                self._wait(next_in_line, began, deadline, before_waiting)
                self._wait(lock, began, deadline, before_waiting)
                fcntl.flock(next_in_line, fcntl.LOCK_UN)
                yield
        finally:
            self._threads.release()

    def _wait(
        self, descriptor: int, began: float, deadline: float, before_waiting: Callable[[], None]
    ) -> None:
        while not try_lock(descriptor, fcntl.LOCK_EX):
            before_waiting()
            if time.monotonic() > deadline:
                raise self._busy(began)
            time.sleep(POLL)

    def _busy(self, began: float) -> StoreUnavailable:
        waited = time.monotonic() - began
        return StoreUnavailable(f"Others have held {self.path} for {waited:.0f} seconds.")


class UseLock:
    """A lock on a file beside the database, shared by all processes that have the database open.

    The first of them calls `check` before any opens the database; others wait for the check, which
    reads the whole log, for a restore and for a copy.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._path = path
        self._check = check
        self._mutex = threading.Lock()
        self._process = 0
        self._file = ExitStack()
        self._descriptor = -1

    def acquire(self) -> bool:
        """Take the shared lock, until `release` or the process's end; the first process checks.

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
                        raise StoreUnavailable(
                            "Another process checks, copies or restores the database."
                        )
                    time.sleep(POLL)
                self._process, self._file = os.getpid(), stack.pop_all()
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        """Release the lock."""
        with self._mutex:
            self._process = 0
            self._file.close()

    @contextmanager
    def exclusive(self, refusal: str = IN_USE) -> Iterator[None]:
        """Hold the exclusive lock; raise `StoreRefused` while another process has the lock."""
        with own_file(self._path) as descriptor:
            if not try_lock(descriptor, fcntl.LOCK_EX):
                raise StoreRefused(refusal)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make our shared lock exclusive; raise `StoreRefused` while another process has one."""
        try:
            if not try_lock(self._descriptor, fcntl.LOCK_EX):
                raise StoreRefused(IN_USE)
            yield
        finally:  # also a failed attempt has released the shared lock
            try_lock(self._descriptor, fcntl.LOCK_SH)


def try_lock(descriptor: int, how: int) -> bool:
    """Take a lock, ``LOCK_SH`` or ``LOCK_EX`` of `fcntl`; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
