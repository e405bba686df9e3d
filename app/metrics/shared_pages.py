"""Memory that the workers of one gunicorn share; each publishes its numbers on a page of it.

The master allocates it before the first fork, for as long as it runs. There is no file that could
be truncated, written to a disk or left over. The next worker to take the page of one that ended,
even by kill -9, finds its last record and continues from it.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import mmap
import struct
from collections.abc import Iterator
from zlib import crc32

#: More than there can be workers, including those that a HUP replaces.
PAGES = 256
#: Bytes of a page. The kernel allocates memory to pages that are used.
PAGE = 1024 * 1024  # 1 MiB

#: The header of a record: its number, the bytes that follow, and their checksum.
_HEADER = struct.Struct("<QII")
#: A page has two records, written alternately: one is whole while the other is being written, or
#: if its writer was killed.
_HALF = PAGE // 2
#: How often a reader tries again if both records were being written.
_ATTEMPTS = 3

#: The states of a page: never used, released, taken by a worker that starts, published on.
_UNUSED, _RELEASED, _TAKEN, _LIVE = range(4)


def new_memory() -> mmap.mmap:
    """Return empty memory for this process and its children to share."""
    return mmap.mmap(-1, PAGES + PAGES * PAGE)


class SharedPages:
    """The pages in `memory`. Only the master takes and releases them."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def take(self) -> int | None:
        """Take a page for a worker that is about to start; return its number, None without one."""
        for page, state in enumerate(self._states()):
            if state in (_UNUSED, _RELEASED):
                self._memory[page] = _TAKEN
                return page
        return None

    def release(self, page: int) -> None:
        """Release the page of a worker that has ended; its record stays."""
        self._memory[page] = _RELEASED

    def write(self, page: int, record: bytes) -> None:
        """Publish `record` on a page; only one thread may do so at a time.

        Raises `ValueError` if it is longer than half a page.
        """
        if _HEADER.size + len(record) > _HALF:
            raise ValueError(f"{len(record)} bytes of metrics are too many for a page.")
        number = self._latest(page)[0] + 1
        start = self._start(page, number)
        written = _HEADER.pack(number, len(record), _checksum(number, record)) + record
        self._memory[start : start + len(written)] = written
        self._memory[page] = _LIVE

    def read(self, page: int) -> bytes:
        """Return the last record on a page, or no bytes if there is none."""
        return self._latest(page)[1]

    def read_all(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the last record of each page in use, and whether its worker runs."""
        for page, state in enumerate(self._states()):
            if state != _UNUSED:
                yield self.read(page), state == _LIVE

    def _states(self) -> bytes:
        return self._memory[:PAGES]

    def _latest(self, page: int) -> tuple[int, bytes]:
        for _ in range(_ATTEMPTS):
            records = [self._record(self._start(page, half)) for half in (0, 1)]
            whole = [record for record in records if record is not None]
            if whole:
                return max(whole)
        return 0, b""

    def _record(self, start: int) -> tuple[int, bytes] | None:
        """Return the number and bytes of the record at `start`, None if it is not whole."""
        content = start + _HEADER.size
        number, length, checksum = _HEADER.unpack(self._memory[start:content])
        record = self._memory[content : content + min(length, _HALF)]
        return (number, record) if _checksum(number, record) == checksum else None

    def _start(self, page: int, number: int) -> int:
        return PAGES + page * PAGE + number % 2 * _HALF


def _checksum(number: int, record: bytes) -> int:
    return crc32(record, number & 0xFFFFFFFF)
