"""One writer at a time, across threads and processes, with an end to the waiting."""

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalog.errors import StoreUnavailable

#: How often a waiting process looks whether the lock is free, in seconds.
_POLL = 0.001


class FileLock:
    """A lock on a file beside the database.

    SQLite's own waiting is not fair: with eight writers its slowest commits take a hundred
    times the median, and to change the journal mode it does not wait at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
            with self._path.open("ab") as file:
                while not _taken(file.fileno()):
                    if time.monotonic() > deadline:
                        raise self._busy(began)
                    time.sleep(_POLL)
                yield
        finally:
            self._threads.release()

    def _busy(self, began: float) -> StoreUnavailable:
        waited = time.monotonic() - began
        return StoreUnavailable(f"Others have held {self._path} for {waited:.0f} seconds.")


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
