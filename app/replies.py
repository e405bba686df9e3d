"""Replies that stand ready: bytes, their entity tag, and their gzip-encoded form.

An entry is encoded once for each dialect and change; a list is a join of such fragments, made
once for each audience and place; gzip is made once, when somebody first asks for it. All of it,
the fragments too, is in one cache that is bounded by bytes.
"""

import gzip
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any

from app.catalog.audiences import Audience
from app.catalog.model import Access, Model, Rule
from app.catalog.paging import Page, Window, bounds, cut, locate
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Excerpt, Viewer, excerpt_of, shown
from app.dialects import Dialect

#: Bodies of these sizes are worth compressing, and short enough to be, in bytes.
GZIP_SIZES = range(1024, 8 * 1024 * 1024 + 1)  # 1 KiB to 8 MiB
#: What a kept body takes beside its content, in bytes: objects, its slot, and the responses that
#: HTTP makes of it, which are four at most: 200 and 304, with a key and without.
OVERHEAD = 6300
#: What an encoded entry takes beside its bytes, likewise.
FRAGMENT_OVERHEAD = 200
#: What a rule takes in a set of them, and the rule itself, which a change may leave to the set;
#: the fragments of an excerpt take as much beside each fragment.
RULE_OVERHEAD = 400
#: Above this many bytes gzip's level 6 costs more than it saves: 12 ms against 5 for 1.5 MB.
GZIP_FAST_ABOVE = 2 * 1024 * 1024  # 2 MiB
#: How often the same list is compressed while it changes all the time, in seconds.
GZIP_PAUSE = 1.0
#: The part of a worker's time that it may compress: else whoever asks for page after page, each
#: of them new, leaves no processor to others.
GZIP_SHARE = 0.05
#: How much of that time may be saved up, in seconds.
GZIP_BURST = 0.1


@dataclass(slots=True, eq=False)
class Reply:
    """A reply: its bytes and their strong entity tag."""

    content: bytes
    #: The encoding of `content`, None for none.
    encoding: str | None = None
    etag: str = field(init=False)
    #: The same reply gzip-encoded, once somebody asked for it.
    gzipped: "Reply | None" = field(default=None, repr=False)
    #: What the HTTP layer keeps with it.
    responses: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.etag = f'"{sha256(self.content).hexdigest()[:32]}"'

    @property
    def size(self) -> int:
        """Return how many bytes it takes, without its other form."""
        return OVERHEAD + len(self.content)


#: The identity of an entry, and its bytes.
_Fragment = tuple[int, bytes]


@dataclass(slots=True, eq=False)
class _Slot:
    """What the cache has under one key: a body, a set of rules, fragments."""

    value: Any
    #: The state of an entry or an audience that it was made of. It is only compared: a body holds
    #: no entry and no list.
    token: Hashable = None
    #: Bytes.
    size: int = 0
    #: Whether somebody asked for it since it was last passed over when room was made.
    used: bool = False
    #: Moments on the monotonic clock: not to be compressed before, compressed at.
    gzip_from: float = float("-inf")
    gzipped_at: float = float("-inf")


class ReplyCache:
    """All ready replies of a process, shared by its threads.

    They take at most `limit` bytes, fragments included; the newest reply stays even if it takes
    more than that by itself. To make room, replies go before fragments: to join a reply again
    takes far less than to encode its entries.
    """

    def __init__(self, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        #: The oldest first.
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        #: The fragments of whole entries by dialect and id, the longest unused first.
        self._fragments: OrderedDict[Hashable, _Slot] = OrderedDict()
        #: Bytes of all slots.
        self.size = 0
        #: Replies that stood ready so far, and those that had to be made. CPython lets no other
        #: thread come between the two steps of ``+= 1``.
        self.hits = 0
        self.misses = 0
        # Held while the cache changes.
        self._lock = threading.Lock()
        # Held while a list is made: one at a time, so that those who ask for many lists leave the
        # processor to others, and each list is made once and not once for each thread. One for
        # each dialect: the first list of 100,000 takes seconds, and no other dialect waits for it.
        self._making: dict[str, threading.Lock] = {}
        # Held while something is compressed; nobody waits for it.
        self._compressing = threading.Lock()
        #: The seconds that may be spent on compressing, as they were at `_credited_at`.
        self._compress_credit = GZIP_BURST
        self._credited_at = monotonic()

    def listing(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        viewer: Viewer,
        window: Window,
        *,
        gzipped: bool,
    ) -> Reply:
        """Return the list that `viewer` gets; a filtered one is made anew each time."""
        audience = snapshot.audiences.of_viewer(viewer)
        page: Page | None = None
        if window.is_filtered:
            self.misses += 1
            with self._making_of(dialect):
                page = self._page(audience, window)
                body = self._make(snapshot, dialect, viewer, page, window)
            return self._form(None, _Slot(body), gzipped=gzipped)
        place: Hashable
        if not window.has_cursor:
            place = locate(0, audience.size, window)
        elif audience.has_few_lists:
            place = locate(*bounds(audience.lists, window), window)
        else:
            page = self._page(audience, window)
            place = (page.first_id, page.last_id, page.has_more)
        scopes = audience.scopes if dialect.shows_permission else None
        key = (dialect.name, audience.name, scopes, place, window.is_page)
        slot = self._look_up(key, audience.state)
        if slot is None:
            with self._making_of(dialect):
                slot = self._look_up(key, audience.state)
                if slot is None:
                    page = page or self._page(audience, window)
                    body = self._make(snapshot, dialect, viewer, page, window)
                    slot = self._keep(key, audience.state, body)
        return self._form(key, slot, gzipped=gzipped)

    def entry(self, dialect: Dialect, model: Model, viewer: Viewer, *, gzipped: bool) -> Reply:
        """Return what `viewer`, who sees `model`, gets at its retrieval; it waits for no list."""
        excerpt = excerpt_of(model.access, viewer) if dialect.shows_permission else None
        key = (dialect.name, model.id, excerpt)
        slot = self._look_up(key, model.identity)
        if slot is None:
            slot = self._keep(key, model.identity, Reply(dialect.entry(shown(model, excerpt))))
        return self._form(key, slot, gzipped=gzipped)

    def constant(self, dialect: Dialect, path: str, *, gzipped: bool) -> Reply:
        """Return the reply at one of the paths where a dialect always says the same."""
        assert dialect.routes is not None, "it has the path"  # noqa: S101
        key = (dialect.name, "constant", path)
        slot = self._look_up(key, None)
        slot = slot or self._keep(key, None, Reply(dialect.routes.constants[path]))
        return self._form(key, slot, gzipped=gzipped)

    def _making_of(self, dialect: Dialect) -> threading.Lock:
        return self._making.setdefault(dialect.name, threading.Lock())

    def _make(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        viewer: Viewer,
        page: Page,
        window: Window,
    ) -> Reply:
        if dialect.shows_permission and snapshot.audiences.of_viewer(viewer).has_excerpts:
            items = self._encode_excerpts(snapshot, dialect, page.models, viewer)
        else:
            known = self._encode(snapshot, dialect, page.models, None)
            items = [known[model.id][1] for model in page.models]
        return Reply(dialect.listing(items, page, window))

    def _page(self, audience: Audience, window: Window) -> Page:
        rules = None if audience.has_few_lists else self._rules_of(audience)
        return cut(audience.lists, window, rules)

    def _rules_of(self, audience: Audience) -> frozenset[Rule]:
        """Return the rules by which an audience sees entries: to find many takes long."""
        key = ("rules", audience.name)
        slot = self._slots.get(key)
        if slot is None:
            found = audience.find_rules()
            slot = self._put(key, None, found, OVERHEAD + RULE_OVERHEAD * len(found))
        slot.used = True
        rules: frozenset[Rule] = slot.value
        return rules

    def _form(self, key: Hashable | None, slot: _Slot, *, gzipped: bool) -> Reply:
        """Return the body as the caller takes it: gzip-encoded where that is there or worth it."""
        body: Reply = slot.value
        if not gzipped or len(body.content) not in GZIP_SIZES:
            return body
        if body.gzipped is None and self._compressing.acquire(blocking=False):
            try:
                self._compress(key, slot, body)
            finally:
                self._compressing.release()
        return body.gzipped or body

    def _compress(self, key: Hashable | None, slot: _Slot, body: Reply) -> None:
        """Make the other form of `body`, unless another thread has, or it is too much just now."""
        began = self._monotonic()
        earned = GZIP_SHARE * (began - self._credited_at)
        self._compress_credit = min(GZIP_BURST, self._compress_credit + earned)
        self._credited_at = began
        if body.gzipped is None and began >= slot.gzip_from and self._compress_credit > 0:
            level = 1 if key is None or len(body.content) > GZIP_FAST_ABOVE else 6
            body.gzipped = Reply(gzip.compress(body.content, level, mtime=0), "gzip")
            slot.gzipped_at = self._monotonic()
            self._compress_credit -= slot.gzipped_at - began
            self._grow(key, slot, body.gzipped.size)

    def _look_up(self, key: Hashable, token: Hashable) -> _Slot | None:
        # Without the lock: a thread that waits for one hands over the interpreter.
        slot = self._slots.get(key)
        if slot is None or slot.token != token:
            return None
        slot.used = True
        self.hits += 1
        return slot

    def _keep(self, key: Hashable, token: Hashable, body: Reply) -> _Slot:
        self.misses += 1
        return self._put(key, token, body, body.size)

    def _put(self, key: Hashable, token: Hashable, value: object, size: int) -> _Slot:
        slot = _Slot(value, token)
        with self._lock:
            stale = self._slots.pop(key, None)
            if stale is not None:
                self.size -= stale.size
                slot.gzip_from = max(stale.gzipped_at + GZIP_PAUSE, stale.gzip_from)
            self._slots[key] = slot
        self._grow(key, slot, size)
        return slot

    def _grow(self, key: Hashable, grown: _Slot, by: int) -> None:
        """Count `by` bytes more for a slot, and make room."""
        with self._lock:
            if grown not in (self._slots.get(key), self._fragments.get(key)):
                return  # it was dropped meanwhile
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

    def _encode_excerpts(
        self, snapshot: Snapshot, dialect: Dialect, models: Sequence[Model], viewer: Viewer
    ) -> list[bytes]:
        """Return each of `models` encoded as `viewer` is shown it."""
        excerpts: dict[Access, Excerpt | None] = {}
        alike: defaultdict[Excerpt | None, list[Model]] = defaultdict(list)
        for model in models:
            access = model.access
            if access not in excerpts:
                excerpts[access] = excerpt_of(access, viewer)
            alike[excerpts[access]].append(model)
        encoded: dict[str, bytes] = {}
        for excerpt, some in alike.items():
            known = self._encode(snapshot, dialect, some, excerpt)
            encoded.update((model.id, known[model.id][1]) for model in some)
        return [encoded[model.id] for model in models]

    def _encode(
        self,
        snapshot: Snapshot,
        dialect: Dialect,
        models: Sequence[Model],
        excerpt: Excerpt | None,
    ) -> Mapping[str, _Fragment]:
        """Return the fragments of at least `models`; only what changed is encoded anew.

        Those of whole entries are the last to be dropped. Those of excerpts, which may be
        many, go as replies do. One thread of each dialect is here at a time.
        """
        key = (dialect.name, excerpt)
        slots = self._fragments if excerpt is None else self._slots
        with self._lock:
            slot = slots.setdefault(key, _Slot({}))
            slots.move_to_end(key)
        slot.used = True
        known: dict[str, _Fragment] = slot.value
        gone: Iterable[str] = ()
        if len(known) > 2 * len(snapshot.models) + 1000:
            gone = known.keys() - {model.id for model in snapshot.models}
        fresh = {
            model.id: (model.identity, dialect.item(shown(model, excerpt)))
            for model in models
            if (fragment := known.get(model.id)) is None or fragment[0] != model.identity
        }
        if fresh or gone:
            dropped = [known.pop(model_id) for model_id in (*fresh, *gone) if model_id in known]
            known.update(fresh)
            own = 0 if excerpt is None or slot.size else RULE_OVERHEAD
            self._grow(key, slot, own + _weight(fresh.values()) - _weight(dropped))
        return known


def _weight(fragments: Iterable[_Fragment]) -> int:
    return sum(FRAGMENT_OVERHEAD + len(encoded) for _, encoded in fragments)
