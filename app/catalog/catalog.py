"""What a worker answers from: the current snapshot or, in an outage, the last one."""

import gc
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from app.catalog.errors import StoreUnavailable, quote
from app.catalog.ports import Feed, Position
from app.catalog.snapshot import Snapshot

_log = logging.getLogger(__name__)

#: After a failure the store is not read, and the last snapshot serves, for so many seconds.
PAUSE = 1.0


class Catalog:
    """The catalogue as this process serves it; all threads share one instance.

    `clock` returns Unix seconds and decides what is live; `monotonic`, which nobody can set back,
    measures ages. In an outage a snapshot serves until it is `max_stale` seconds old.
    """

    def __init__(
        self,
        feed: Feed,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        max_stale: float | None = None,
    ) -> None:
        self._feed = feed
        self._max_stale = math.inf if max_stale is None else max_stale
        self._clock = clock
        self._monotonic = monotonic
        # Held by the one thread that reads entries; only threads that need these entries wait.
        self._update_lock = threading.Lock()
        # Protects `last` while it is replaced.
        self._snapshot_lock = threading.Lock()
        # Held by the one thread that reads the store in an outage; no other waits for it.
        self._retry_lock = threading.Lock()
        # Protects the outage, the number of failures and the end of the pause.
        self._outage_lock = threading.Lock()
        #: The last snapshot, however old; None before the first one.
        self.last: Snapshot | None = None
        self._confirmed = monotonic()
        self._failures = 0
        self._retry_at = 0.0
        #: How many times a snapshot was loaded or updated, and the seconds that this took.
        self.rebuilds = 0
        self.rebuild_seconds = 0.0
        #: Why the store cannot be read; None while it can.
        self.outage: str | None = None

    @property
    def age(self) -> float:
        """Return the seconds since the store last confirmed that the snapshot is current."""
        return self._monotonic() - self._confirmed

    def current(self) -> Snapshot:
        """Return the snapshot to answer from; see `current_or_stale`."""
        return self.current_or_stale()[0]

    def current_or_stale(self, *, keys_only: bool = False) -> tuple[Snapshot, bool]:
        """Return the snapshot at the store's revision and False, or the last one and True.

        It reads the revision, and nothing else unless that changed. While the store cannot be
        read, the last snapshot serves and `outage` gives the reason; one thread at a time tries
        again, a `PAUSE` after the last failure. `StoreUnavailable` is raised only if there is no
        snapshot yet, or if it is too old. With `keys_only` its entries may be older.
        """
        outage = self.outage
        if outage is None:
            snapshot, is_stale = self._read(keys_only=keys_only)
        elif self._monotonic() < self._retry_at or not self._retry_lock.acquire(blocking=False):
            snapshot, is_stale = self._stale(outage)
        else:
            try:
                snapshot, is_stale = self._read()
            finally:
                self._retry_lock.release()
        now = self._clock()
        if not snapshot.since <= now < snapshot.until:
            snapshot = self._last_at(now)
        return snapshot, is_stale

    def _read(self, *, keys_only: bool = False) -> tuple[Snapshot, bool]:
        """Read the store now; return the snapshot as of its own date, and whether it is stale."""
        snapshot, failures = self.last, self._failures
        started = self._monotonic()
        try:
            position = self._feed.position()
        except StoreUnavailable as error:
            self._record_failure(error)
            # A standby does not know how old its list is: too old, perhaps, for `max_stale`.
            if snapshot is None and self._max_stale == math.inf:
                self._load_from_standby()
            return self._stale(error.reason)
        if snapshot is None or snapshot.position != position:
            if keys_only and snapshot and self._feed.own_changes(snapshot.position, position):
                return snapshot, False
            try:
                snapshot = self._update(snapshot, position, failures)
            except StoreUnavailable as error:
                return self._stale(error.reason)
        self._confirmed = max(started, self._confirmed)  # another thread may have read later
        if self.outage is not None:
            self._end_outage(failures)
        return snapshot, False

    def _stale(self, outage: str) -> tuple[Snapshot, bool]:
        """Return the last snapshot and True; raise if there is none or it is too old."""
        snapshot, age = self.last, self.age
        if snapshot is None:
            raise StoreUnavailable(outage)
        if age > self._max_stale:
            raise StoreUnavailable(
                f"The last list is {age:.0f} seconds old, and ROSTER_MAX_STALE is "
                f"{self._max_stale:.0f}: {outage}"
            )
        return snapshot, True

    def _last_at(self, now: float) -> Snapshot:
        """Return the last snapshot, brought to `now`."""
        with self._snapshot_lock:
            assert self.last is not None, "only a snapshot that serves has boundaries"  # noqa: S101
            self.last = self.last.at(now)
            return self.last

    def _load_from_standby(self) -> None:
        """Load the entries of a standby, if there is one: old ones are better than none."""
        with self._update_lock, suppress(StoreUnavailable), _usable():
            if self.last is None:
                stored = self._feed.load(standby=True)
                with self._snapshot_lock:
                    self.last = Snapshot.of(stored, self._clock())

    def _update(self, seen: Snapshot | None, position: Position, failures: int) -> Snapshot:
        """Return a snapshot at `position` or later; one thread makes it, others wait for it.

        `seen` and `failures` are the snapshot and the number of failures before the read of
        `position`.
        """
        with self._update_lock:
            if failures != self._failures:  # what failed for another thread would fail again
                raise StoreUnavailable(self.outage or "The store could not be read.")
            last = self.last
            if (
                last is not None
                and (seen is None or last.position != seen.position)
                and (last.revision > position.revision or last.position == position)
            ):
                return last  # another thread has made it
            started = self._monotonic()
            try:
                with _usable(), _uncollected():
                    snapshot = self._make(last, position)
            except StoreUnavailable as error:
                self._record_failure(error)  # before another thread gets the lock
                raise
            with self._snapshot_lock:
                self.last = snapshot
            self.rebuilds += 1
            self.rebuild_seconds += self._monotonic() - started
            return snapshot

    def _make(self, last: Snapshot | None, position: Position) -> Snapshot:
        if last is not None:
            behind = position.revision - last.revision
            # To apply changes of half the entries takes as long as to load all of them.
            # A store at an earlier revision, or with another change at this one, has lost ours.
            if 0 < behind <= (len(last.models) + len(last.keys_by_digest) + 1) // 2:
                changes = self._feed.own_changes(last.position, position)
                changes = changes or self._feed.changes_since(last.position)
                if changes is not None:
                    return last.apply(changes, self._clock())
        return Snapshot.of(self._feed.load(), self._clock())

    def _record_failure(self, error: StoreUnavailable) -> None:
        with self._outage_lock:
            if self.outage != error.reason:
                _log.error("The store cannot be read: %s", error.reason)
            self.outage = error.reason
            self._failures += 1
            self._retry_at = self._monotonic() + PAUSE

    def _end_outage(self, failures: int) -> None:
        with self._outage_lock:
            if failures == self._failures:  # a later failure is not over
                if self.outage is not None:
                    _log.warning("The store can be read again.")
                self.outage = None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from visiting every new entry many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _usable() -> Iterator[None]:
    """Raise `StoreUnavailable` for a stored entry with wrong types or dates."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"A stored entry cannot be used: {quote(str(error))}"
        raise StoreUnavailable(reason) from error
