"""Memory that the workers of one gunicorn share, in which each has a page to publish on.

The master makes it before the first fork and keeps it through every HUP. There is no file, and so
nothing to be emptied, to be written to a disk or to pile up; and whoever takes the page of a
worker that has ended, even by kill -9, finds what it published last and counts on from there.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import mmap
import struct
from collections.abc import Iterator
from zlib import crc32

#: For more workers than there can be, those that a HUP replaces among them.
PAGES = 256
#: Bytes of a page. The kernel gives memory to those that are used, and no sooner.
PAGE = 1024 * 1024  # 1 MiB

#: Of a record: its number, how many bytes follow, and their checksum.
_HEAD = struct.Struct("<QII")
#: A page holds two records, written in turn: a reader, or a writer's end, finds one whole.
_HALF = PAGE // 2
#: How often a reader looks again when it found both halves being written.
_LOOKS = 3

#: What a page is: never used, free again, taken by a worker that starts, published on.
_UNUSED, _LEFT, _TAKEN, _LIVE = range(4)


def new_memory() -> mmap.mmap:
    """Return empty memory, which this process and its children will share."""
    return mmap.mmap(-1, PAGES + PAGES * PAGE)


class SharedPages:
    """The pages in `memory`. Only the master takes them and leaves them."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def take(self) -> int | None:
        """Return a page for a worker that is about to start, None if all are taken."""
        for page, state in enumerate(self._states()):
            if state in (_UNUSED, _LEFT):
                self._memory[page] = _TAKEN
                return page
        return None

    def leave(self, page: int) -> None:
        """Keep what stands on a page for whoever takes it next: its worker has ended."""
        self._memory[page] = _LEFT

    def write(self, page: int, record: bytes) -> None:
        """Publish `record` in place of the last one; one thread at a time.

        Raises `ValueError` for one that is longer than half a page.
        """
        if _HEAD.size + len(record) > _HALF:
            raise ValueError(f"{len(record)} bytes of metrics are more than a page has.")
        number = self._latest(page)[0] + 1
        start = self._start(page, number)
        written = _HEAD.pack(number, len(record), _checksum(number, record)) + record
        self._memory[start : start + len(written)] = written
        self._memory[page] = _LIVE

    def read(self, page: int) -> bytes:
        """Return what was last published on a page, nothing if nothing was."""
        return self._latest(page)[1]

    def read_all(self) -> Iterator[tuple[bytes, bool]]:
        """Yield what stands on each page, and whether its worker lives."""
        for page, state in enumerate(self._states()):
            if state != _UNUSED:
                yield self.read(page), state == _LIVE

    def _states(self) -> bytes:
        return self._memory[:PAGES]

    def _latest(self, page: int) -> tuple[int, bytes]:
        for _ in range(_LOOKS):
            records = [self._record(self._start(page, half)) for half in (0, 1)]
            whole = [record for record in records if record is not None]
            if whole:
                return max(whole)
        return 0, b""

    def _record(self, start: int) -> tuple[int, bytes] | None:
        """Return number and bytes of the record at `start`, None if it is not whole."""
        content = start + _HEAD.size
        number, length, checksum = _HEAD.unpack(self._memory[start:content])
        record = self._memory[content : content + min(length, _HALF)]
        return (number, record) if _checksum(number, record) == checksum else None

    def _start(self, page: int, number: int) -> int:
        return PAGES + page * PAGE + number % 2 * _HALF


def _checksum(number: int, record: bytes) -> int:
    return crc32(record, number & 0xFFFFFFFF)
