"""Replies, and their gzip, within a fixed part of a worker's time."""

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

#: What a reply takes beside its content, in bytes: objects, and its slot.
OVERHEAD = 1500
#: Only content of these sizes, in bytes, is worth compressing and short enough for it.
SIZES = range(1024, 8 * 1024 * 1024 + 1)  # 1 KiB to 8 MiB
#: Above this many bytes gzip's level 6 costs more than it saves: 12 ms against 5 for 1.5 MB.
FAST_ABOVE = 2 * 1024 * 1024  # 2 MiB
#: The part of a worker's time that it may spend on gzip: otherwise a client that asks for one
#: new page after the other leaves no processor to the others.
SHARE = 0.05
#: How much unused time may add up, in seconds.
BURST = 0.1


@dataclass(slots=True, eq=False)
class Reply:
    """The content of a reply, and its strong entity tag."""

    content: bytes
    #: The Content-Encoding of `content`, None for none.
    encoding: str | None = None
    etag: str = field(init=False)
    #: The same reply as gzip, after a client asked for that.
    gzipped: "Reply | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.etag = f'"{sha256(self.content).hexdigest()[:32]}"'

    @property
    def size(self) -> int:
        """Return how many bytes it takes, without `gzipped`."""
        return OVERHEAD + len(self.content)


class Compressor:
    """Compresses for all threads of a worker, one at a time, while its budget lasts."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # Held while something is compressed; nobody waits for it.
        self._lock = threading.Lock()
        # Seconds that may be spent, as of `_credited_at`.
        self._credit = BURST
        self._credited_at = monotonic()

    def compress(self, reply: Reply, *, fast: bool) -> Reply | None:
        """Set `reply.gzipped` and return it, None where the size or the budget does not allow it.

        It is None, too, if another thread has made it: so it is made and counted once.
        """
        if len(reply.content) not in SIZES or not self._lock.acquire(blocking=False):
            return None
        try:
            started = self._monotonic()
            earned = SHARE * (started - self._credited_at)
            self._credit = min(BURST, self._credit + earned)
            self._credited_at = started
            if self._credit <= 0 or reply.gzipped is not None:
                return None
            level = 1 if fast or len(reply.content) > FAST_ABOVE else 6
            reply.gzipped = Reply(gzip.compress(reply.content, level, mtime=0), "gzip")
            self._credit -= self._monotonic() - started
            return reply.gzipped
        finally:
            self._lock.release()
