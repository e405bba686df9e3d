"""Writes: a slot in the process, the writers' lock, a transaction."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from app.catalog.errors import StoreUnavailable
from app.catalog.ports import Actor
from app.store.backend import WRITE_TIMEOUT, Backend
from app.store.opening import Opening, Pace
from app.store.transaction import OwnChanges, SqlTransaction, transaction, write_connection

#: After how many seconds without progress of any writer further ones are refused at once.
_STUCK = 1.0
#: A write of so many seconds is fast, from the lock to the end of the commit.
_FAST = 0.002


class WriterSlots:
    """Bounds the threads of a process that wait to write, so that some are left for readers.

    While writers make progress, others wait for a slot. While none does, because another program
    holds the lock, others are refused after a second.
    """

    def __init__(self, number: int, before_waiting: Callable[[], None]) -> None:
        self._number = number
        self._before_waiting = before_waiting
        self.in_use = 0
        self._changed = threading.Condition()
        #: When a writer last ended, or began to wait alone.
        self._progress = 0.0

    @contextmanager
    def taken(self, deadline: float) -> Iterator[None]:
        """Hold a slot; raise `StoreUnavailable` if there is none before `deadline`.

        The deadline is a time of `time.monotonic`.
        """
        if self.in_use >= self._number:
            self._before_waiting()
        with self._changed:
            if not self.in_use:
                self._progress = time.monotonic()
            while self.in_use >= self._number:
                patience = min(self._progress + _STUCK, deadline) - time.monotonic()
                if patience <= 0:
                    raise StoreUnavailable("Other writers wait already, and none gets the lock.")
                self._changed.wait(patience)
            self.in_use += 1
        progress = True
        try:
            yield
        except StoreUnavailable:
            progress = False
            raise
        finally:
            with self._changed:
                self.in_use -= 1
                if progress:
                    self._progress = time.monotonic()
                self._changed.notify()


class Writer:
    """Opens the transactions of a process with so many `threads`."""

    def __init__(self, opening: Opening, threads: int) -> None:
        self._opening = opening
        self.slots = WriterSlots(max(1, threads - 1), opening.before_waiting)
        self._pace = Pace(opening, _FAST)
        #: The result of the last write of this process, ``ok``, ``failing`` or ``unknown``, and
        #: its time on the monotonic clock.
        self.writes = "unknown"
        self.wrote_at = 0.0
        #: The last changes of this process; None unless they are known and of entries alone.
        self.own: OwnChanges | None = None

    @contextmanager
    def transaction(self, *, actor: Actor, now: int) -> Iterator[SqlTransaction]:
        """Open a transaction for `actor` at `now`, after all others."""
        with self._alone() as (backend, deadline):
            with transaction(backend, deadline, actor=actor, now=now) as opened:
                yield opened
            if opened.changed:
                self.own = opened.own and opened.own.after(self.own)
        if opened.changed:
            self.writes, self.wrote_at = "ok", time.monotonic()

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Give a connection for a write that takes no revision, and commit it."""
        with (
            self._alone() as (backend, deadline),
            write_connection(backend, deadline) as connection,
        ):
            yield connection
        self.writes, self.wrote_at = "ok", time.monotonic()

    @contextmanager
    def _alone(self) -> Iterator[tuple[Backend, float]]:
        """Hold the writers' lock of an open database; give its backend and the writer's deadline.

        It waits until one deadline for its slot, for the writers' lock and for SQLite's lock.
        """
        deadline = time.monotonic() + WRITE_TIMEOUT
        self._pace.before()
        try:
            self._opening.open()
            backend = self._opening.backend
            with (
                self.slots.taken(deadline),
                self._opening.outages(),
                backend.writer_lock(deadline),
            ):
                began = self._opening.monotonic()
                yield backend, deadline
                self._pace.after(began)
        except StoreUnavailable:
            self.writes, self.wrote_at = "failing", time.monotonic()
            raise
