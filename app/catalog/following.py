"""A worker's view of the store: always the current snapshot, and the last one in an outage."""

import logging
import threading
import time
from collections.abc import Callable

from app.catalog.errors import StoreUnavailable
from app.catalog.ports import Feed, Position
from app.catalog.snapshot import Snapshot

_log = logging.getLogger(__name__)


class Catalog:
    """The catalogue as this process serves it; one instance is shared by all its threads.

    `clock` gives Unix seconds and decides what is live; ages are told by `monotonic`, which
    nobody can set back.
    """

    def __init__(
        self,
        feed: Feed,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._monotonic = monotonic
        # Held while the image is made anew.
        self._lock = threading.Lock()
        # Held while it is told that an outage begins or ends, so that one thread tells it.
        self._telling = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._confirmed = monotonic()
        #: How often an image was loaded or brought up to date, and how long that took together.
        self.rebuilds = 0
        self.rebuild_seconds = 0.0
        #: While reads are answered from the last image: why the store cannot be read.
        self.outage: str | None = None

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that the image is the current one."""
        return self._monotonic() - self._confirmed

    def current(self) -> Snapshot:
        """Return the snapshot at the store's revision.

        One read of the revision, and nothing else unless it moved. When the store cannot be
        read, the last snapshot goes on serving and `outage` says why; `StoreUnavailable` is
        raised only where there is none yet.
        """
        snapshot, outage = self._snapshot, self.outage
        try:
            position = self._feed.position()
            if snapshot is None or snapshot.position != position:
                snapshot = self._follow(snapshot, position)
        except StoreUnavailable as error:
            snapshot = self._note(error)
        else:
            self._confirmed = self._monotonic()
            if outage is not None:  # one that began meanwhile is not over by what was read before
                self._recover()
        now = self._clock()
        return snapshot if snapshot.covers(now) else self._turn(now)

    def _follow(self, seen: Snapshot | None, position: Position) -> Snapshot:
        with self._lock:
            started = self._monotonic()
            latest = self._snapshot
            if (
                latest is None
                or latest.position.lineage != position.lineage
                or (latest is seen and position.revision < latest.revision)
            ):
                # The first image, or a database put back from a backup: its log says nothing
                # of what we have. (Tools of others put it back with the same lineage.)
                snapshot = Snapshot.of(self._feed.load(), self._clock())
            elif latest.revision >= position.revision:
                return latest  # another thread was here first
            else:
                changes = self._feed.changes_since(latest.position)
                now = self._clock()
                snapshot = (
                    Snapshot.of(self._feed.load(), now)
                    if changes is None
                    else latest.apply(changes, now)
                )
            self._snapshot = snapshot
            self.rebuilds += 1
            self.rebuild_seconds += self._monotonic() - started
            return snapshot

    def _turn(self, now: float) -> Snapshot:
        with self._lock:
            latest = self._snapshot
            assert latest is not None, "only a served snapshot has a stretch of time to leave"  # noqa: S101
            if not latest.covers(now):
                latest = self._snapshot = latest.turn(now)
            return latest

    def _note(self, error: StoreUnavailable) -> Snapshot:
        snapshot = self._snapshot
        with self._telling:
            if self.outage != error.reason:
                _log.error("The store cannot be read: %s", error.reason)
            self.outage = error.reason
        if snapshot is None:
            raise error
        return snapshot

    def _recover(self) -> None:
        with self._telling:
            if self.outage is not None:
                _log.warning("The store can be read again.")
            self.outage = None
