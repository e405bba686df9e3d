"""The write counter: a file beside the database that changes with each write."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.store.files import own_file

#: All numbers are below, in seconds since 1970: what the system sets is a time after 2004.
_LIMIT = 2**30


class WriteCounter:
    """A number that is odd while somebody writes: the modification time of the empty file `path`.

    While it is even and unchanged, nobody has written. A writer that is killed leaves it odd until
    the next write has ended.

    A read is one system call, and by the file's name: a file that was removed or replaced is seen
    as well. A file with content would take three calls, or a map, and whoever truncates a mapped
    file kills all processes that have mapped it (SIGBUS).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)  # a Path would cost each read a microsecond

    def read(self) -> os.stat_result | None:
        """Return the status of the file, which differs after each write; None if it has none."""
        try:
            return os.lstat(self._name)
        except OSError:
            return None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a write; the caller holds the writers' lock.

        Each write adds a random number: two that begin at once, because somebody has removed the
        lock's file, have different numbers.
        """
        with own_file(self._path) as descriptor:
            number = int(os.fstat(descriptor).st_mtime) + 2 * secrets.randbits(16) + 2
            number = number % _LIMIT | 1
            os.utime(descriptor, (number, number))
            try:
                yield
            finally:
                with suppress(OSError):  # readers read the database until the next write has ended
                    os.utime(descriptor, (number + 1, number + 1))

    def is_interrupted(self) -> bool:
        """Return whether a write was interrupted; nobody holds the writers' lock."""
        found = self.read()
        return found is not None and found.st_mtime < _LIMIT and found.st_mtime % 2 == 1


def is_at_rest(found: os.stat_result) -> bool:
    """Return whether nobody wrote when the counter was read."""
    return found.st_mtime < _LIMIT and found.st_mtime % 2 == 0
