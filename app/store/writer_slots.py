"""How many threads of a process may wait to write: not all of them, or not for long."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.catalog.errors import StoreUnavailable

#: How long no writer may have had its turn until further ones are refused at once, in seconds.
_STUCK = 1.0


class WriterSlots:
    """So many places for writers of a process, fewer than it has threads: readers need one, too.

    While writers get their turn, others wait for a place. When none does, as behind a lock that
    is none of ours, they are refused after a second.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken = 0
        self._changed = threading.Condition()
        #: When a writer last had its turn, or began to wait for it alone.
        self._progress = 0.0

    @contextmanager
    def taken(self, deadline: float) -> Iterator[None]:
        """Hold a place; raise `StoreUnavailable` where there will be none soon.

        At `deadline` (`time.monotonic`) it is too late in any case.
        """
        with self._changed:
            if not self._taken:
                self._progress = time.monotonic()
            while self._taken >= self._number:
                patience = min(self._progress + _STUCK, deadline) - time.monotonic()
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
