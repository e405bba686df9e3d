"""The metrics of a process and, under gunicorn, of all workers together.

Each worker writes its numbers to its own page of shared memory, once a second and at each request
for metrics. prometheus_client's own way to do this is to write a file at each observation. It must
be chosen before the first import, and no file is removed when its worker ends.
"""

import atexit
import json
import logging
import mmap
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from importlib.util import find_spec

from app.catalog.catalog import Catalog
from app.catalog.errors import StoreUnavailable
from app.logs import access_lines, error_lines
from app.metrics.shared_pages import SharedPages
from app.metrics.tally import Tally, Totals
from app.replies import ReplyCache
from app.store.backend import Measured
from app.store.store import Store

_log = logging.getLogger(__name__)

#: How often a worker reads the store and publishes its numbers, in seconds. What a worker counts
#: between that and being killed is lost.
TICK = 1.0

#: The version of a record's format: during a HUP, workers of two versions share the memory.
_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Gauges:
    """The gauges of a worker at one moment, in the order of a record."""

    revision: int
    entries: int
    #: Seconds since the store confirmed the snapshot.
    image_age: float
    #: Whether the store cannot be read.
    outage: bool
    #: Whether the store failed to do the last write, and the moment of that, on the clock of `at`.
    failing: bool
    wrote_at: float
    #: Bytes of the reply cache.
    cached: int
    #: The moment of the gauges, on the monotonic clock, which all processes of a host share.
    at: float = field(default_factory=time.monotonic)

    @property
    def image_age_now(self) -> float:
        """Return the age of the snapshot by now, even if the worker no longer publishes."""
        return self.image_age + time.monotonic() - self.at


@dataclass(frozen=True, slots=True)
class Gathered:
    """The totals of all workers, ended ones too, and the gauges of each one that runs."""

    totals: Totals
    workers: list[Gauges]
    #: None while the database cannot be read.
    measured: Measured | None


class Metrics:
    """The metrics of this process, and of those with which it shares memory."""

    def __init__(self, catalog: Catalog, replies: ReplyCache, store: Store) -> None:
        self.tally = Tally()
        self._catalog = catalog
        self._replies = replies
        self._store = store
        self._shared_pages: SharedPages | None = None
        self._page = 0
        self._inherited: Totals = {}
        # Held while numbers are read and published, so that older ones never replace newer ones.
        self._publishing = threading.Lock()

    def share(self, memory: mmap.mmap, page: int) -> None:
        """Publish on a page of `memory` from now on, and add the totals that are on it."""
        self._shared_pages, self._page = SharedPages(memory), page
        self._inherited, _ = _decode(self._shared_pages.read(page))
        self._publish(self._gauges())
        atexit.register(self._publish, None)
        threading.Thread(target=self._tick, name="metrics").start()

    def gather(self) -> Gathered:
        """Return the metrics of all workers, this one's and the store's as they are now."""
        gauges = self._gauges()
        if self._shared_pages is None:
            return Gathered(self._totals(), [gauges], self._measure())
        self._publish(gauges)  # so that no later answer has smaller totals
        totals: defaultdict[tuple[str, ...], float] = defaultdict(float)
        workers = []
        for record, is_live in self._shared_pages.read_all():
            counted, published = _decode(record)
            for key, number in counted.items():
                totals[key] += number
            if is_live and published is not None:
                workers.append(published)
        return Gathered(totals, workers, self._measure())

    def _tick(self) -> None:
        main = threading.main_thread()
        while True:
            main.join(TICK)
            if not main.is_alive():
                return  # the exit publishes, and the store closes the connection of this thread
            try:
                self._publish(self._gauges())
            except Exception:  # noqa: BLE001 - else the gauges would be stale, and nobody notice
                _log.exception("The metrics of this worker could not be published.")

    def _publish(self, gauges: Gauges | None) -> None:
        assert self._shared_pages is not None, "only `share` starts to publish"  # noqa: S101
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

    def _gauges(self) -> Gauges:
        """Read the store, which without requests nothing else does, and return the gauges."""
        with suppress(StoreUnavailable):  # then there is an `outage`
            self._catalog.current()
        snapshot = self._catalog.last
        return Gauges(
            0 if snapshot is None else snapshot.revision,
            0 if snapshot is None else len(snapshot.models),
            self._catalog.age,
            self._catalog.outage is not None,
            self._store.writer.writes == "failing",
            self._store.writer.wrote_at,
            self._replies.size,
        )

    def _measure(self) -> Measured | None:
        """Measure the store; return None in an outage, so that /metrics does not wait."""
        try:
            return self._store.measure() if self._catalog.outage is None else None
        except StoreUnavailable:
            return None


def is_wanted() -> bool:
    """Return whether the extra ``metrics`` is installed; it is not imported before it is used."""
    return find_spec("prometheus_client") is not None


def _encode(totals: Totals, gauges: Gauges | None) -> bytes:
    counted = [[*key, number] for key, number in totals.items()]
    return json.dumps([_FORMAT, gauges and astuple(gauges), counted]).encode()


def _decode(record: bytes) -> tuple[Totals, Gauges | None]:
    version, *parts = json.loads(record or "[null]")
    if version != _FORMAT:  # no record yet, or one of another program version
        return {}, None
    gauges, counted = parts
    return {tuple(key): number for *key, number in counted}, gauges and Gauges(*gauges)
