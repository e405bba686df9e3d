"""The metrics of a process and, under gunicorn, of all workers together.

Each worker publishes its numbers on a page of its own, once a second and whenever it is asked
for those of all. prometheus_client has a way of its own to do this, with files: it must be chosen
before anything is imported, writes to a file at each observation, and keeps the files of
every worker that ever was.
"""

import atexit
import json
import logging
import mmap
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec

from app.catalog.catalog import Catalog
from app.catalog.errors import StoreUnavailable
from app.logs import access_lines, error_lines
from app.metrics.shared_pages import SharedPages
from app.metrics.tally import Tally, Totals
from app.replies import ReplyCache
from app.store.backend import Size
from app.store.store import Store

_log = logging.getLogger(__name__)

#: How often a worker publishes, and looks whether the store can be read, in seconds. A worker
#: that is killed takes with it what it counted since.
TICK = 1.0

#: Of records. It changes with their form: during a HUP, workers of two versions share a board.
_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Gauges:
    """How a worker stands at one moment."""

    revision: int
    entries: int
    #: Seconds since the store confirmed the image.
    image_age: float
    #: Whether the store cannot be read.
    outage: bool
    #: Whether the last write failed for the store, and when that was, on the clock of `at`.
    failing: bool
    wrote_at: float
    #: Bytes of ready replies.
    cached: int
    #: The moment, on the monotonic clock that all processes of a host share.
    at: float = field(default_factory=time.monotonic)

    @property
    def image_age_now(self) -> float:
        """Return the age that the image has by now, whether or not the worker is still awake."""
        return self.image_age + time.monotonic() - self.at


@dataclass(frozen=True, slots=True)
class Gathered:
    """What all workers have counted, those that have ended too, and how each that lives stands."""

    totals: Totals
    workers: list[Gauges]
    #: None while the database cannot be read.
    size: Size | None


class Metrics:
    """What this process tells of itself, and of the others that share a board with it."""

    def __init__(self, catalog: Catalog, replies: ReplyCache, store: Store) -> None:
        self.tally = Tally()
        self._catalog = catalog
        self._replies = replies
        self._store = store
        self._shared_pages: SharedPages | None = None
        self._page = 0
        self._inherited: Totals = {}
        # Held while numbers are read and published: older ones never replace newer ones.
        self._publishing = threading.Lock()

    def share(self, memory: mmap.mmap, page: int) -> None:
        """Publish on a page of `memory` from now on, and count on from what stands there."""
        self._shared_pages, self._page = SharedPages(memory), page
        self._inherited, _ = _decode(self._shared_pages.read(page))
        self._publish(self._look())
        atexit.register(self._publish, None)
        threading.Thread(target=self._tick, name="metrics").start()

    def gather(self) -> Gathered:
        """Return the metrics of all workers, this one's and the store's size as they are now."""
        gauges = self._look()
        if self._shared_pages is None:
            return Gathered(self._totals(), [gauges], self._measure())
        self._publish(gauges)  # nobody is told a number that a later answer might fall behind
        totals: defaultdict[tuple[str, ...], float] = defaultdict(float)
        workers = []
        for record, is_live in self._shared_pages.read_all():
            counted, stands = _decode(record)
            for key, number in counted.items():
                totals[key] += number
            if is_live and stands is not None:
                workers.append(stands)
        return Gathered(totals, workers, self._measure())

    def _tick(self) -> None:
        main = threading.main_thread()
        while True:
            main.join(TICK)
            if not main.is_alive():
                return  # the exit publishes; the store can close the connection of this thread
            try:
                self._publish(self._look())
            except Exception:  # noqa: BLE001 - else gauges would stand still and be believed
                _log.exception("The metrics of this worker could not be published.")

    def _publish(self, gauges: Gauges | None) -> None:
        assert self._shared_pages is not None, "a page to publish on was given"  # noqa: S101
        with self._publishing:
            self._shared_pages.write(self._page, _encode(self._totals(), gauges))

    def _totals(self) -> Totals:
        own: Totals = {
            **self.tally.totals(),
            ("roster_reply_cache_hits",): self._replies.hits,
            ("roster_reply_cache_misses",): self._replies.misses,
            ("roster_image_rebuilds",): self._catalog.rebuilds,
            ("roster_image_rebuild_seconds",): self._catalog.rebuild_seconds,
            ("roster_access_lines_lost",): access_lines.lost,
            ("roster_error_lines_lost",): error_lines.lost,
        }
        return {
            key: own.get(key, 0) + self._inherited.get(key, 0) for key in own | self._inherited
        }

    def _look(self) -> Gauges:
        """Return how this worker stands; without requests nobody else would ask the store."""
        with suppress(StoreUnavailable):  # which is what `outage` says
            self._catalog.current()
        snapshot = self._catalog.last
        return Gauges(
            0 if snapshot is None else snapshot.revision,
            0 if snapshot is None else len(snapshot.models),
            self._catalog.age,
            self._catalog.outage is not None,
            self._store.writes == "failing",
            self._store.wrote_at,
            self._replies.size,
        )

    def _measure(self) -> Size | None:
        """Return the size of the store; None in an outage, so that /metrics does not wait."""
        try:
            return self._store.size() if self._catalog.outage is None else None
        except StoreUnavailable:
            return None


def is_wanted() -> bool:
    """Tell whether the extra ``metrics`` is installed; it is not imported before it is used."""
    return find_spec("prometheus_client") is not None


def _encode(totals: Totals, gauges: Gauges | None) -> bytes:
    stands = gauges and [
        gauges.revision,
        gauges.entries,
        gauges.image_age,
        gauges.outage,
        gauges.failing,
        gauges.wrote_at,
        gauges.cached,
        gauges.at,
    ]
    counted = [[*key, number] for key, number in totals.items()]
    return json.dumps([_FORMAT, stands, counted]).encode()


def _decode(record: bytes) -> tuple[Totals, Gauges | None]:
    form, *parts = json.loads(record or "[null]")
    if form != _FORMAT:  # nothing yet, or something of another version
        return {}, None
    stands, counted = parts
    return {tuple(key): number for *key, number in counted}, stands and Gauges(*stands)
