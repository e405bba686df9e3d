"""The write counter: a file beside the database that changes with each write."""

import ctypes
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.store.files import own_file

#: All numbers are below, in seconds since 1970: what the system sets is a time after 2004.
_LIMIT = 2**30
# os.lstat releases the interpreter, and among other threads that costs a request 7 % of its time;
# a call of PyDLL does not, and costs 2 %.
# Without it, as in musl before 1.2.5, the status is unknown, and the database is read each time.
_statx: Any = getattr(ctypes.PyDLL(None), "statx", lambda *_: -1)
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
#: AT_FDCWD, AT_SYMLINK_NOFOLLOW and STATX_BASIC_STATS of linux/fcntl.h and linux/stat.h; there,
#: struct statx has 256 bytes, of which these are the seconds of the modification time.
_FOLDER, _NO_FOLLOW, _BASIC = -100, 0x100, 0x7FF
_MTIME = slice(112, 120)


class WriteCounter:
    """A number that is odd while somebody writes: the modification time of the empty file `path`.

    If it is even, and equal to what was read before, there was no write in between. A writer that
    is killed leaves it odd until the next write has ended.

    A read is one system call on the name of the file, so it notices a removed or replaced file.
    Reading content would take three calls. Content could also be mapped into memory, but to
    truncate a mapped file kills every process that reads the map (SIGBUS).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = os.fsencode(path)
        # Threads share it: one may get what another has read meanwhile, which is newer.
        self._status = ctypes.create_string_buffer(256)
        self._address = ctypes.addressof(self._status)
        #: The last one that was read while nobody wrote.
        self._last = b""

    def state(self) -> bytes | None:
        """Return the status of the file, None while somebody writes, and without a file."""
        if _statx(_FOLDER, self._name, _NO_FOLLOW, _BASIC, self._address):
            return None
        status, last = self._status.raw, self._last
        if status == last:  # which is faster than the number, also for who compares the two
            return last
        number = int.from_bytes(status[_MTIME], sys.byteorder)
        if number >= _LIMIT or number % 2:
            return None
        self._last = status
        return status

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
                # Without it, readers read the database until the next write has ended. By name, as
                # they do: somebody may have put another file there meanwhile.
                with suppress(OSError):
                    os.utime(self._path, (number + 1, number + 1), follow_symlinks=False)

    def is_interrupted(self) -> bool:
        """Return whether a write was interrupted; nobody holds the writers' lock."""
        with suppress(OSError):
            number = int(self._path.lstat().st_mtime)
            return 0 < number < _LIMIT and number % 2 == 1
        return False
