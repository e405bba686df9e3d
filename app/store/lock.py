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
#: How long no writer may have had its turn until further ones are refused at once, in seconds.
_STUCK = 1.0


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


class Places:
    """So many places for writers of a process, fewer than it has threads: readers need one, too.

    While writers get their turn, others wait for a place. When none does, as behind a lock that
    is none of ours, they are refused.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken = 0
        self._changed = threading.Condition()
        #: When a writer last had its turn, or began to wait for it alone.
        self._progress = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place; raise `StoreUnavailable` where there is none and will be none soon."""
        with self._changed:
            if not self._taken:
                self._progress = time.monotonic()
            while self._taken >= self._number:
                patience = self._progress + _STUCK - time.monotonic()
                if patience <= 0:
                    raise StoreUnavailable("Other writers wait already, and none has its turn.")
                self._changed.wait(patience)
            self._taken += 1
        progress = True
        try:
            yield
        except StoreUnavailable:
            progress = False
            raise
        finally:
            with self._changed:
                self._taken -= 1
                if progress:
                    self._progress = time.monotonic()
                self._changed.notify()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
