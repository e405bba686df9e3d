"""A worker's view of the store: always the current snapshot, and the last one in an outage."""

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


#: After a failure, how long the store is left alone and the last image served, in seconds.
PAUSE = 1.0


class Catalog:
    """The catalogue as this process serves it; one instance is shared by all its threads.

    `clock` gives Unix seconds and decides what is live; ages are told by `monotonic`, which
    nobody can set back. In an outage an image serves until it is `max_stale` seconds old.
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
        # Held by the one thread that makes a new image; only those who need that image wait.
        self._following = threading.Lock()
        # Held while another snapshot takes the place of the last one.
        self._lock = threading.Lock()
        # Held by the one thread that reads the store in an outage; no other waits for it.
        self._trying = threading.Lock()
        # Protects the outage, the number of failures and the end of the pause.
        self._outage_lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._confirmed = monotonic()
        self._failures = 0
        self._retry_at = 0.0
        #: How often an image was loaded or brought up to date, and how long that took together.
        self.rebuilds = 0
        self.rebuild_seconds = 0.0
        #: While reads are answered from the last image: why the store cannot be read.
        self.outage: str | None = None

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that the image is the current one."""
        return self._monotonic() - self._confirmed

    @property
    def last(self) -> Snapshot | None:
        """The last snapshot, however old; the store is not asked. None before the first one."""
        return self._snapshot

    def current(self) -> Snapshot:
        """Return the snapshot to answer from; see `current_or_stale`."""
        return self.current_or_stale()[0]

    def current_or_stale(self) -> tuple[Snapshot, bool]:
        """Return the snapshot at the store's revision and False, or the last one and True.

        One read of the revision, and nothing else unless it moved. When the store cannot be
        read, the last snapshot goes on serving and `outage` says why; one thread at a time tries
        again, a `PAUSE` after the last try. `StoreUnavailable` is raised only where there is no
        snapshot yet, or where it is too old.
        """
        outage = self.outage
        if outage is None:
            snapshot, is_stale = self._ask()
        elif self._monotonic() < self._retry_at or not self._trying.acquire(blocking=False):
            snapshot, is_stale = self._last(outage), True
        else:
            try:
                snapshot, is_stale = self._ask()
            finally:
                self._trying.release()
        now = self._clock()
        return (snapshot if snapshot.covers(now) else self._turn(now)), is_stale

    def _ask(self) -> tuple[Snapshot, bool]:
        """Return the snapshot at the store's revision and False, or the last one and True."""
        snapshot, failures = self._snapshot, self._failures
        asked = self._monotonic()
        try:
            position = self._feed.position()
        except StoreUnavailable as error:
            self._note(error)
            # How old its list is, a standby does not know: not where lists must not be too old.
            if snapshot is None and self._max_stale == math.inf:
                self._load_from_standby()
            return self._last(error.reason), True
        if snapshot is None or snapshot.position != position:
            try:
                snapshot = self._follow(snapshot, position, failures)
            except StoreUnavailable as error:
                return self._last(error.reason), True
        self._confirmed = max(asked, self._confirmed)  # another thread may have asked later
        if self.outage is not None:
            self._recover(failures)
        return snapshot, False

    def _last(self, outage: str) -> Snapshot:
        """Return the last snapshot; raise `StoreUnavailable` if there is none or it is too old."""
        snapshot, age = self._snapshot, self.age
        if snapshot is None:
            raise StoreUnavailable(outage)
        if age > self._max_stale:
            raise StoreUnavailable(
                f"The last list is {age:.0f} seconds old, and ROSTER_MAX_STALE is "
                f"{self._max_stale:.0f}: {outage}"
            )
        return snapshot

    def _load_from_standby(self) -> None:
        """Take what a standby has, if there is one: it may be old, and is better than nothing."""
        with self._following, suppress(StoreUnavailable), _usable():
            if self._snapshot is None:
                image = self._feed.load(standby=True)
                with self._lock:
                    self._snapshot = Snapshot.of(image, self._clock())

    def _follow(self, seen: Snapshot | None, position: Position, failures: int) -> Snapshot:
        """Return a snapshot at `position` or later; one thread makes it, others wait for it.

        The caller had `seen`, and had counted so many `failures` before.
        """
        with self._following:
            if failures != self._failures:  # what failed for another thread would fail again
                raise StoreUnavailable(self.outage or "The store could not be read.")
            latest = self._snapshot
            if (
                latest is not None
                and (seen is None or latest.position != seen.position)
                and (latest.revision > position.revision or latest.position == position)
            ):
                return latest  # another thread was here first
            started = self._monotonic()
            try:
                with _usable():
                    snapshot = self._make(latest, position)
            except StoreUnavailable as error:
                self._note(error)  # before another thread gets the lock
                raise
            with self._lock:
                self._snapshot = snapshot
            self.rebuilds += 1
            self.rebuild_seconds += self._monotonic() - started
            return snapshot

    def _make(self, latest: Snapshot | None, position: Position) -> Snapshot:
        if latest is not None:
            behind = position.revision - latest.revision
            # To read a log of more changes than there are entries costs more than to load these.
            # A store that went back, or has another change at the same revision, lost ours.
            if 0 < behind <= len(latest.models) + len(latest.keys_by_digest):
                changes = self._feed.changes_since(latest.position)
                if changes is not None:
                    return latest.apply(changes, self._clock())
        image = self._feed.load()
        return Snapshot.of(image, self._clock())

    def _turn(self, now: float) -> Snapshot:
        with self._lock:
            latest = self._snapshot
            assert latest is not None, "only a snapshot that serves has dates to pass"  # noqa: S101
            if not latest.covers(now):
                latest = self._snapshot = latest.turn(now)
            return latest

    def _note(self, error: StoreUnavailable) -> None:
        with self._outage_lock:
            if self.outage != error.reason:
                _log.error("The store cannot be read: %s", error.reason)
            self.outage = error.reason
            self._failures += 1
            self._retry_at = self._monotonic() + PAUSE

    def _recover(self, failures: int) -> None:
        with self._outage_lock:
            if failures == self._failures:  # what has failed since is not over by what was read
                if self.outage is not None:
                    _log.warning("The store can be read again.")
                self.outage = None


@contextmanager
def _usable() -> Iterator[None]:
    """Turn what a stored entry of wrong types or dates raises into `StoreUnavailable`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"A stored entry cannot be used: {quote(str(error))}"
        raise StoreUnavailable(reason) from error
