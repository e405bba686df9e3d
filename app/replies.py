"""The cache of replies: bytes, their entity tags, and their gzip encodings.

An entry is encoded once for each dialect and change. A list joins such fragments, once for each
dialect, audience and page. gzip is made once, when a client first asks for it. All of this, the
fragments too, is in one cache that is bounded by bytes.
"""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.catalog.model import Access, Model
from app.catalog.paging import EVERYTHING, Page, Window, bounds, cut, find_span
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Excerpt, Viewer, apply_excerpt, excerpt_of
from app.compression import OVERHEAD, Compressor, Reply
from app.dialects import Dialect

#: What an encoded entry takes beside its bytes, in bytes.
FRAGMENT_OVERHEAD = 200
#: What a rule takes in a set of them, with the rule itself, as a change may leave it to the set.
#: The fragments of an excerpt take as much beside each fragment.
RULE_OVERHEAD = 400
#: How many entries are encoded before other threads get the interpreter: for a millisecond or two.
BATCH = 100
#: How long they have it at least, in seconds. Without a pause the thread that gives it up has it
#: again before a thread that waits for it wakes up.
BATCH_PAUSE = 0.0001
#: A list that changes all the time is compressed at most once in so many seconds.
GZIP_PAUSE = 1.0


#: The identity of an entry, and the encoded entry.
_Fragment = tuple[int, bytes]


@dataclass(slots=True, eq=False)
class _Slot:
    """What the cache has under one key: a reply, a set of rules, or fragments."""

    value: Any
    #: The state of the entry or audience that `value` was made of. It is a token to compare, and
    #: not that object: a cached reply must keep no entry and no list in memory.
    state: Hashable = None
    #: Bytes.
    size: int = 0
    #: Whether it was used since it was last spared from removal.
    used: bool = False
    #: On the monotonic clock: not to be compressed before.
    gzip_from: float = float("-inf")


class ReplyCache:
    """The replies of a process, shared by its threads.

    They take at most `limit` bytes, fragments included; the newest reply stays even if it is
    larger. Replies are removed before fragments: to join a reply again takes far less time than
    to encode its entries.
    """

    def __init__(self, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._compressor = Compressor(monotonic)
        # By key, the oldest first.
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        # The fragments of whole entries by dialect, the least recently used first.
        self._fragments: OrderedDict[Hashable, _Slot] = OrderedDict()
        #: Bytes of all slots.
        self.size = 0
        #: How many replies were in the cache when they were asked for, and how many were not.
        #: CPython switches to no other thread between the two steps of ``+= 1``.
        self.hits = 0
        self.misses = 0
        # Protects the slots and their sizes.
        self._lock = threading.Lock()
        # By dialect, one for whole lists and one for parts of lists, held while one is made. So
        # threads do not make the same list twice, and clients that ask for many lists leave the
        # processor to others. The first list of 100,000 entries takes a second or more: no other
        # dialect waits for it, and no page.
        self._list_locks: dict[Hashable, threading.Lock] = {}

    def listing(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        viewer: Viewer,
        window: Window,
        *,
        gzipped: bool,
    ) -> Reply:
        """Return the list for `viewer`, as gzip if `gzipped` and if the budget allows it.

        A filtered list is not cached.
        """
        audience = snapshot.audiences.of_viewer(viewer)
        page: Page | None = None
        span: Hashable
        if window == EVERYTHING:
            span = None
        elif window.is_filtered:
            self.misses += 1
            with self._list_lock(dialect, window):
                page = self._cut(snapshot, viewer, window)
                reply = self._make(snapshot, dialect, viewer, page, window)
            return self._negotiate(None, _Slot(reply), gzipped=gzipped)
        elif window.after is None and window.before is None:
            span = find_span(0, audience.size, window)
        elif audience.has_few_lists:
            span = find_span(*bounds(audience.lists, window), window)
        else:
            page = self._cut(snapshot, viewer, window)
            span = (page.first_id, page.last_id, page.has_more)
        scopes = audience.scopes if dialect.shows_permission else None
        key = (dialect.name, audience.name, scopes, span)
        slot = self._find(key, audience.state)
        if slot is None:
            with self._list_lock(dialect, window):
                slot = self._find(key, audience.state)
                if slot is None:
                    page = page or self._cut(snapshot, viewer, window)
                    reply = self._make(snapshot, dialect, viewer, page, window)
                    slot = self._add(key, audience.state, reply)
        return self._negotiate(key, slot, gzipped=gzipped)

    def entry(self, dialect: Dialect, model: Model, viewer: Viewer, *, gzipped: bool) -> Reply:
        """Return `model` as `viewer`, who sees it, retrieves it, without waiting for any list."""
        excerpt = excerpt_of(model.access, viewer) if dialect.shows_permission else None
        key = (dialect.name, model.id, excerpt)
        slot = self._find(key, model.identity)
        if slot is None:
            reply = Reply(dialect.entry(apply_excerpt(model, excerpt)))
            slot = self._add(key, model.identity, reply)
        return self._negotiate(key, slot, gzipped=gzipped)

    def constant(self, dialect: Dialect, path: str, *, gzipped: bool) -> Reply:
        """Return the reply at one of the paths where `dialect` has a constant one."""
        assert dialect.routes is not None, "it has the path"  # noqa: S101
        key = (dialect.name, "constant", path)
        slot = self._find(key, None)
        slot = slot or self._add(key, None, Reply(dialect.routes.constants[path]))
        return self._negotiate(key, slot, gzipped=gzipped)

    def _list_lock(self, dialect: Dialect, window: Window) -> threading.Lock:
        kind = dialect.name, window == EVERYTHING
        return self._list_locks.setdefault(kind, threading.Lock())

    def _cut(self, snapshot: Snapshot, viewer: Viewer, window: Window) -> Page:
        audience = snapshot.audiences.of_viewer(viewer)
        if audience.has_few_lists:
            return cut(audience.lists, window)
        key = ("rules", audience.name)
        slot = self._slots.get(key)
        if slot is None:
            rules = snapshot.audiences.find_rules(viewer)  # to find many takes long
            slot = self._put(key, None, rules, OVERHEAD + RULE_OVERHEAD * len(rules))
        slot.used = True
        return cut(audience.lists, window, slot.value)

    def _negotiate(self, key: Hashable | None, slot: _Slot, *, gzipped: bool) -> Reply:
        """Return the reply of a slot in the best encoding that the client accepts."""
        reply: Reply = slot.value
        if not gzipped:
            return reply
        if reply.gzipped is None and self._monotonic() >= slot.gzip_from:
            packed = self._compressor.compress(reply, fast=key is None)
            if packed is not None:
                slot.gzip_from = self._monotonic() + GZIP_PAUSE
                self._grow(key, slot, packed.size)
        return reply.gzipped or reply

    def _find(self, key: Hashable, state: Hashable) -> _Slot | None:
        # Without the lock: a thread that waits for one gives up the interpreter.
        slot = self._slots.get(key)
        if slot is None or slot.state != state:
            return None
        slot.used = True
        self.hits += 1
        return slot

    def _add(self, key: Hashable, state: Hashable, reply: Reply) -> _Slot:
        self.misses += 1
        return self._put(key, state, reply, reply.size)

    def _put(self, key: Hashable, state: Hashable, value: object, size: int) -> _Slot:
        slot = _Slot(value, state)
        with self._lock:
            stale = self._slots.pop(key, None)
            if stale is not None:
                self.size -= stale.size
                slot.gzip_from = stale.gzip_from
            self._slots[key] = slot
        self._grow(key, slot, size)
        return slot

    def _grow(self, key: Hashable, grown: _Slot, by: int) -> None:
        """Add `by` bytes to the size of a slot, and remove others while there are too many."""
        with self._lock:
            if grown not in (self._slots.get(key), self._fragments.get(key)):
                return  # it has been removed
            grown.size += by
            self.size += by
            while self.size > self._limit:
                if any(slot is not grown for slot in islice(self._slots.values(), 2)):
                    oldest, slot = next(iter(self._slots.items()))
                    if slot.used or slot is grown:  # a second chance, behind all the others
                        slot.used = False
                        self._slots.move_to_end(oldest)
                        continue
                    del self._slots[oldest]
                else:
                    oldest, slot = next(iter(self._fragments.items()), (key, grown))
                    if slot is grown:
                        return
                    del self._fragments[oldest]
                self.size -= slot.size

    def _make(
        self, snapshot: Snapshot, dialect: Dialect, viewer: Viewer, page: Page, window: Window
    ) -> Reply:
        """Make the list of `page`, with each entry encoded as `viewer` is shown it."""
        models = page.models
        if dialect.shows_permission and snapshot.audiences.of_viewer(viewer).has_excerpts:
            by_access: defaultdict[Access, list[Model]] = defaultdict(list)
            for model in models:
                by_access[model.access].append(model)
            by_excerpt: defaultdict[Excerpt | None, list[Model]] = defaultdict(list)
            for access, some in by_access.items():
                by_excerpt[excerpt_of(access, viewer)] += some
            encoded: dict[str, bytes] = {}
            for excerpt, some in by_excerpt.items():
                items = self._encode(snapshot, dialect, some, excerpt)
                encoded.update(zip((model.id for model in some), items, strict=True))
            items = [encoded[model.id] for model in models]
        else:
            items = self._encode(snapshot, dialect, models, None)
        return Reply(dialect.listing(items, page, window))

    def _encode(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        models: Sequence[Model],
        excerpt: Excerpt | None,
    ) -> list[bytes]:
        """Return the fragments of `models`; only entries that changed are encoded anew.

        After a `BATCH` of such entries this waits for a moment, without a lock that others need.
        Fragments of whole entries are removed last. Those of excerpts, which may be many, are
        removed as replies are.
        """
        key = (dialect.name, excerpt)
        slots = self._fragments if excerpt is None else self._slots
        with self._lock:
            slot = slots.setdefault(key, _Slot({}))
            slots.move_to_end(key)
        slot.used = True
        fragments: dict[str, _Fragment] = slot.value
        fresh: dict[str, _Fragment] = {}
        items: list[bytes] = []
        for model in models:
            fragment = fragments.get(model.id)
            if fragment is None or fragment[0] != model.identity:
                if fresh and len(fresh) % BATCH == 0:
                    time.sleep(BATCH_PAUSE)
                fragment = model.identity, dialect.item(apply_excerpt(model, excerpt))
                fresh[model.id] = fragment
            items.append(fragment[1])
        live = snapshot.audiences.live
        with self._lock:
            removed: Iterable[str] = ()
            if len(fragments) > 2 * len(live) + 1000:
                removed = fragments.keys() - {model.id for model in live}
            old = [fragments.pop(i) for i in (*fresh, *removed) if i in fragments]
            fragments.update(fresh)
        if fresh or old:
            own = 0 if excerpt is None or slot.size else RULE_OVERHEAD
            self._grow(key, slot, own + _weight(fresh.values()) - _weight(old))
        return items


def _weight(fragments: Iterable[_Fragment]) -> int:
    return sum(FRAGMENT_OVERHEAD + len(encoded) for _, encoded in fragments)
