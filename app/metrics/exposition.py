"""Gathered metrics in the text format of Prometheus.

This module alone imports ``prometheus_client``, and so is imported only when it is needed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from app.metrics.gathering import Gathered, Gauges
from app.metrics.tally import BOUND_LABELS
from app.store.backend import Measured

#: Counters by name, without ``_total``: help, and labels.
_COUNTERS: dict[str, tuple[str, Sequence[str]]] = {
    "roster_key_refusals": ("Requests refused for their key.", ("reason",)),
    "roster_reply_cache_hits": ("Replies that were in the cache.", ()),
    "roster_reply_cache_misses": ("Replies that were not in the cache.", ()),
    "roster_image_rebuilds": ("Times that a snapshot was loaded or updated.", ()),
    "roster_image_rebuild_seconds": ("Time spent on loading and updating snapshots.", ()),
    "roster_access_lines_lost": ("Access lines that standard output did not take.", ()),
    "roster_error_lines_lost": (
        "Other log lines that standard error did not take.",
        (),
    ),
}

#: Gauges by name: help, and the value for all workers, of the worst one where there is a worst.
_GAUGES: dict[str, tuple[str, Callable[[Sequence[Gauges]], float]]] = {
    "roster_workers": ("Workers that serve.", len),
    "roster_revision": (
        "Revision of the worker that is furthest behind.",
        lambda workers: min(worker.revision for worker in workers),
    ),
    "roster_entries": (
        "Entries of the worker that has the fewest.",
        lambda workers: min(worker.entries for worker in workers),
    ),
    "roster_image_age_seconds": (
        "Time since the store confirmed the oldest snapshot.",
        lambda workers: max(worker.image_age_now for worker in workers),
    ),
    "roster_outage": (
        "Whether some worker cannot read the store.",
        lambda workers: max(worker.outage for worker in workers),
    ),
    "roster_writes_failing": (
        "Whether the store failed to do the last write.",
        lambda workers: max(workers, key=lambda worker: worker.wrote_at).failing,
    ),
    "roster_reply_cache_bytes": (
        "Size of the reply caches of all workers.",
        lambda workers: sum(worker.cached for worker in workers),
    ),
}


def expose(gathered: Gathered, accept: str) -> tuple[bytes, str]:
    """Return a body and its Content-Type, in the best format that `accept`, the header, allows."""
    encode, content_type = choose_encoder(accept)
    return encode(_Collector(gathered)), content_type


class _Collector(Collector):
    """Gathered metrics in the form that prometheus_client encodes."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield self._requests()
        yield self._durations()
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for key, number in self._gathered.totals.items():
                if key[0] == name:
                    counter.add_metric(key[1:], number)
            yield counter
        for name, (text, of_all) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, float(of_all(self._gathered.workers)))
        measured = self._gathered.measured
        if measured is not None:
            text = "Revisions from the first change in the log to the last."
            yield GaugeMetricFamily("roster_log_changes", text, measured.log_changes)
            if measured.log_oldest is not None:
                text = "Time of the first change in the log, in Unix seconds."
                yield GaugeMetricFamily(
                    "roster_log_oldest_timestamp_seconds", text, measured.log_oldest
                )
            text = "Size of the database on its disk."
            yield GaugeMetricFamily("roster_database_bytes", text, measured.database_bytes)
            yield from _imports(measured)

    def _requests(self) -> Metric:
        counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (what, *labels), number in self._gathered.totals.items():
            if what == "requests":
                counts[tuple(labels[:-1])] += number
        requests = CounterMetricFamily(
            "roster_requests", "Requests answered.", labels=("route", "dialect", "status")
        )
        for key, number in sorted(counts.items()):
            requests.add_metric(key, number)
        return requests

    def _durations(self) -> Metric:
        counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for (what, *labels), number in self._gathered.totals.items():
            if what == "requests":
                counts[labels[0]][labels[-1]] += number
        durations = HistogramMetricFamily(
            "roster_request_duration_seconds",
            "Time from a request's dispatch to its answer, the server's own not included.",
            labels=("route",),
        )
        for route, by_bound in sorted(counts.items()):
            buckets = []
            reached = 0.0
            for bound in BOUND_LABELS:
                reached += by_bound[bound]
                buckets.append((bound, reached))
            durations.add_metric((route,), buckets, self._gathered.totals["seconds", route])
        return durations


def _imports(measured: Measured) -> Iterator[Metric]:
    """Yield the age of the last good import by source, and whether one has failed since."""
    text = "Time since the last good import from a source."
    ages = GaugeMetricFamily("roster_import_age_seconds", text, labels=("source",))
    text = "Whether an import from a source has failed since the last good one."
    failing = GaugeMetricFamily("roster_import_failing", text, labels=("source",))
    for source in measured.sources:
        if source.last_good is not None:
            ages.add_metric((source.name,), max(0, measured.at - source.last_good.at))
        failing.add_metric((source.name,), source.is_failing)
    yield ages
    yield failing
