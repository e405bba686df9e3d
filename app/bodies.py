"""Replies that stand ready: bytes, their entity tag, and their gzip-encoded form.

An entry is encoded once for each dialect and change; a list is a join of such fragments, made
once for each audience and window; gzip is made once, when somebody first asks for it. What was
made is kept until the entry or the audience changes, in a cache bounded by bytes.
"""

import gzip
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from app.catalog.model import Model
from app.catalog.paging import Window, cut
from app.catalog.snapshot import Audience, Snapshot
from app.catalog.visibility import Viewer
from app.dialects import Dialect

#: Bodies of these sizes are worth compressing, and short enough to be, in bytes.
GZIP_SIZES = range(1024, 8 * 1024 * 1024 + 1)  # 1 KiB to 8 MiB
#: What a kept body takes beside its content, in bytes: objects, headers, its place in the cache.
OVERHEAD = 2300
#: Above this many bytes gzip's level 6 costs more than it saves: 12 ms against 5 for 1.5 MB.
GZIP_FAST_ABOVE = 2 * 1024 * 1024  # 2 MiB
#: How often the same list is compressed while it changes all the time, in seconds.
GZIP_PAUSE = 1.0


@dataclass(slots=True, eq=False)
class Body:
    """A reply: its bytes and their strong entity tag."""

    content: bytes
    #: The encoding of `content`, None for none.
    encoding: str | None = None
    etag: str = field(init=False)
    #: The same reply gzip-encoded, once somebody asked for it.
    gzipped: "Body | None" = field(default=None, repr=False)
    #: What the HTTP layer keeps with it.
    ready: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.etag = f'"{sha256(self.content).hexdigest()[:32]}"'

    @property
    def size(self) -> int:
        """Return how many bytes it takes, both forms together."""
        own = OVERHEAD + len(self.content)
        return own if self.gzipped is None else own + self.gzipped.size


#: What a body is made of: the list of an audience, an entry, or what a dialect always says.
_Source = Audience | Model | Dialect


@dataclass(slots=True, eq=False)
class _Kept:
    """A body, and what it was made of: it is stale for anything else, though it be equal."""

    source: _Source
    body: Body
    #: Moments on the monotonic clock: not to be compressed before, compressed at.
    gzip_from: float
    gzipped_at: float = float("-inf")
    #: Whether somebody asked for it since it was last looked at for dropping.
    used: bool = False


class Bodies:
    """All ready replies of a process, shared by its threads and holding at most `limit` bytes."""

    def __init__(self, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._kept: dict[Hashable, _Kept] = {}
        #: Bytes that are kept.
        self.size = 0
        #: Replies that stood ready so far, and those that had to be made. CPython lets no other
        #: thread come between the two steps of ``+= 1``.
        self.hits = 0
        self.misses = 0
        # Held while the cache changes.
        self._lock = threading.Lock()
        # Held while something is made: a miss is made once, and not once for each thread. One
        # for each dialect: the first list of 100,000 takes seconds, and nobody else waits for it.
        self._making: dict[str, threading.Lock] = {}
        self._fragments: dict[str, dict[str, tuple[Model, bytes]]] = {}

    def listing(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        viewer: Viewer,
        window: Window,
        *,
        gzipped: bool,
    ) -> Body:
        """Return the list that `viewer` gets; a filtered one is made anew each time."""
        audience = snapshot.audience(viewer)

        def make() -> Body:
            page = cut(audience.models, window)
            items = self._fragments_of(snapshot, dialect, page.models)
            return Body(dialect.listing(items, page, window))

        if window.is_filtered:
            self.misses += 1
            body = make()
            return _gzip(body, 1) if gzipped and _is_worth_gzip(body) else body
        key = (dialect.name, audience.viewer, window)
        return self._get(dialect, key, audience, make, gzipped=gzipped)

    def entry(self, dialect: Dialect, model: Model, *, gzipped: bool) -> Body:
        """Return the reply to the retrieval of `model`."""
        key = (dialect.name, model.id)
        return self._get(dialect, key, model, lambda: Body(dialect.entry(model)), gzipped=gzipped)

    def constant(self, dialect: Dialect, path: str, *, gzipped: bool) -> Body:
        """Return the reply at one of the paths where a dialect always says the same."""
        assert dialect.routes is not None, "it has the path"  # noqa: S101
        content = dialect.routes.constants[path]
        key = (dialect.name, "constant", path)
        return self._get(dialect, key, dialect, lambda: Body(content), gzipped=gzipped)

    def _get(
        self,
        dialect: Dialect,
        key: Hashable,
        source: _Source,
        make: Callable[[], Body],
        *,
        gzipped: bool,
    ) -> Body:
        kept = self._look_up(key, source)
        if kept is None:
            with self._making.setdefault(dialect.name, threading.Lock()):
                kept = self._look_up(key, source) or self._keep(key, source, make())
        if not gzipped or not _is_worth_gzip(kept.body):
            return kept.body
        return kept.body.gzipped or self._gzipped(key, kept)

    def _gzipped(self, key: Hashable, kept: _Kept) -> Body:
        """Return the gzip-encoded form; the first caller makes it, the others wait for it."""
        now = self._monotonic()
        if now < kept.gzip_from:
            return kept.body  # it changes faster than it is worth compressing
        body = kept.body
        with body.lock:
            if body.gzipped is None:
                level = 1 if len(body.content) > GZIP_FAST_ABOVE else 6
                kept.gzipped_at = now
                gzipped = _gzip(body, level)
                with self._lock:
                    body.gzipped = gzipped
                    if self._kept.get(key) is kept:
                        self._grow(gzipped.size)
            return body.gzipped

    def _look_up(self, key: Hashable, source: _Source) -> _Kept | None:
        # Without the lock: a thread that waits for one hands over the interpreter.
        kept = self._kept.get(key)
        if kept is None or kept.source is not source:
            return None
        kept.used = True
        self.hits += 1
        return kept

    def _keep(self, key: Hashable, source: _Source, body: Body) -> _Kept:
        with self._lock:
            kept = _Kept(source, body, float("-inf"))
            if (stale := self._kept.pop(key, None)) is not None:
                self.size -= stale.body.size
                kept.gzip_from = max(stale.gzipped_at + GZIP_PAUSE, stale.gzip_from)
            self._kept[key] = kept
            self._grow(body.size)
            self.misses += 1
            return kept

    def _grow(self, by: int) -> None:
        """Count `by` bytes more, and drop the oldest that nobody uses; the lock is held."""
        self.size += by
        while self.size > self._limit and len(self._kept) > 1:
            key, oldest = next(iter(self._kept.items()))
            del self._kept[key]
            if oldest.used:  # a second chance, behind all the others
                oldest.used = False
                self._kept[key] = oldest
            else:
                self.size -= oldest.body.size

    def _fragments_of(
        self, snapshot: Snapshot, dialect: Dialect, models: Sequence[Model]
    ) -> list[bytes]:
        """Return each of `models` encoded; only what changed is encoded anew."""
        known = self._fragments.setdefault(dialect.name, {})
        if len(known) > 2 * len(snapshot.models) + 1000:  # most are of entries long gone
            for model_id in known.keys() - snapshot.by_id.keys():
                known.pop(model_id, None)  # another thread may be here as well
        fragments = []
        for model in models:
            pair = known.get(model.id)
            if pair is None or pair[0] is not model:
                pair = known[model.id] = (model, dialect.item(model))
            fragments.append(pair[1])
        return fragments


def _is_worth_gzip(body: Body) -> bool:
    return len(body.content) in GZIP_SIZES


def _gzip(body: Body, level: int) -> Body:
    return Body(gzip.compress(body.content, level, mtime=0), "gzip")
