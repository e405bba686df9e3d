"""One writer at a time, across threads and processes."""

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalog.errors import StoreUnavailable
from app.store.files import own_file

#: How often a waiting process looks whether the lock is free, in seconds.
POLL = 0.0005


class FileLock:
    """A lock on a file beside the database.

    SQLite's own waiting is not fair: with eight writers its slowest commits take a hundred
    times the median, and to change the journal mode it does not wait at all. Nor is a lock fair
    by itself: whoever lets it go is the first to take it again, while others sleep. So there is a
    second one, of whoever is next in line: it is taken before the first is waited for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = path.with_name(f"{path.name}.next")
        # Threads queue here, so that a process never waits for itself at the file.
        self._threads = threading.Lock()

    @contextmanager
    def held(self, deadline: float) -> Iterator[None]:
        """Hold the lock; raise `StoreUnavailable` at `deadline`, a time of `time.monotonic`."""
        began = time.monotonic()
        if not self._threads.acquire(timeout=max(0.0, deadline - began)):
            raise self._busy(began)
        try:
            # A descriptor of its own for each holder: closing it is what unlocks.
            with own_file(self._next) as next_in_line, own_file(self.path) as lock:
                self._wait(next_in_line, began, deadline)
                self._wait(lock, began, deadline)
                fcntl.flock(next_in_line, fcntl.LOCK_UN)
                yield
        finally:
            self._threads.release()

    def _wait(self, descriptor: int, began: float, deadline: float) -> None:
        while not try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise self._busy(began)
            time.sleep(POLL)

    def _busy(self, began: float) -> StoreUnavailable:
        waited = time.monotonic() - began
        return StoreUnavailable(f"Others have held {self.path} for {waited:.0f} seconds.")


def try_lock(descriptor: int, how: int) -> bool:
    """Take a lock, ``LOCK_SH`` or ``LOCK_EX`` of `fcntl`; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
