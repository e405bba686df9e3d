"""Files beside the database: checked before they are used, and written whole or not at all."""

import errno
import fcntl
import glob
import logging
import mmap
import os
import shlex
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from app.catalog.errors import StoreRefused

_log = logging.getLogger(__name__)

#: How old a draft is that a killed process has left, in seconds.
_LEFT = 24 * 60 * 60  # a day
#: Read or write, for those who are neither the owner nor in the group. Kubernetes gives all files
#: of a volume to its group.
OTHERS = stat.S_IROTH | stat.S_IWOTH


@contextmanager
def own_file(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Give a descriptor of a file that this program made, or makes for its owner and group.

    Other users may have put anything under its name: raises `StoreRefused` as `check_own` does,
    and `OSError`. What is there is not changed, and a pipe is not waited for.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags & ~os.O_CREAT)
    except OSError:
        check_own(path)  # its error says more, unless the file is missing
        descriptor = os.open(path, flags, 0o640)
    try:
        _check(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def check_own(path: Path, *, links: int = 1) -> os.stat_result | None:
    """Return the status of a file that this program made, None where there is none.

    Raises `StoreRefused` for a link, for what is no file, for a file of another user, for one with
    more than `links` names, and where root would make files in the folder of another user.
    """
    try:
        if os.geteuid() == 0:
            _check_owner(path.parent, path.parent.stat())
        found = path.lstat()
    except FileNotFoundError:
        return None
    _check(path, found, links)
    return found


def _check(path: Path, found: os.stat_result, links: int = 1) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise StoreRefused(f"{path} is a symbolic link, which is not followed: move it away.")
    if not stat.S_ISREG(found.st_mode):
        raise StoreRefused(f"{path} is no regular file: move it away.")
    _check_owner(path, found)
    if found.st_nlink > links:
        raise StoreRefused(
            f"{path} has a second name: find it with 'find / -xdev -samefile "
            f"{shlex.quote(str(path))}', and remove that one."
        )


def _check_owner(path: Path, found: os.stat_result) -> None:
    """Refuse files of other users; the owner of a folder could not use what root makes there."""
    user = os.geteuid()
    if found.st_uid == user:
        return
    what = (
        f"run this as that user (in Kubernetes, 'runAsUser: {found.st_uid}'), or as root run "
        f"'chown -h {user} {shlex.quote(str(path))}'."
    )
    if user == 0:
        what = (
            f"run this as that user, with 'setpriv --reuid={found.st_uid} --regid={found.st_gid} "
            f"--clear-groups {shlex.quote(sys.argv[0])} …'."
        )
    raise StoreRefused(f"{path} belongs to user {found.st_uid}, not to user {user}: {what}")


def denied(path: Path) -> str:
    """Return which file or folder does not let this user open or make `path`, and whose it is."""
    path = path.absolute()
    there = [file for file in (path, *path.parents) if os.path.exists(file)]  # noqa: PTH110
    closed = [folder for folder in there if folder.is_dir() and not os.access(folder, os.X_OK)]
    cause = closed[-1] if closed else there[0]  # the root comes last
    found = cause.stat()
    return (
        f"{path} cannot be opened or made by user {os.geteuid()}: {cause} belongs to user "
        f"{found.st_uid} and group {found.st_gid}, with mode {stat.S_IMODE(found.st_mode):04o}."
    )


#: How a file system says that it has no locks, or no shared maps.
_UNSUPPORTED = {errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def lacking(folder: Path, *, maps: bool) -> str | None:
    """Return what SQLite needs and the file system of `folder` lacks, None if it has all.

    Without shared `maps` of memory SQLite says "disk I/O error".
    """
    need = "locks"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(mmap.PAGESIZE)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            need = "shared memory maps"
            if maps:
                mmap.mmap(file.fileno(), mmap.PAGESIZE).close()
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            return None  # then something else is wrong, such as a full disk
        return (
            f"The file system of the folder {folder} has no {need} ({error}): many of FUSE, "
            "SMB and NFS have none. Put the database on a local disk, with ROSTER_INSTANCE_PATH, "
            "or into PostgreSQL, with ROSTER_DATABASE_URL."
        )
    return None


def remove_left_drafts(folder: Path) -> None:
    """Remove the drafts that killed processes have left in `folder`."""
    with suppress(OSError):  # a start or a backup does not depend on it
        for path in folder.glob(".roster-*.draft*"):  # also the files of SQLite beside one
            found = path.lstat()
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if is_ours and found.st_mtime < time.time() - _LEFT:
                path.unlink()
                _log.warning("Removed %s: a process was killed before it had.", path)


def warn_of_others(path: Path) -> None:
    """Log which files beside the database `path` other users may open.

    Earlier programs made such files. Their modes are not changed.
    """
    with suppress(OSError):  # a start does not depend on it
        files = sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
        theirs = [file for file in files if not file.is_symlink() and file.stat().st_mode & OTHERS]
        if theirs:
            _log.warning("Others on this host may read, or lock: %s", chmod(*theirs))


def chmod(*paths: Path) -> str:
    """Return the command that denies other users access to files."""
    return f"'chmod o= {shlex.join(map(str, paths))}'"


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a draft, which becomes `target` when the block ends; only its owner may read it.

    Raises `FileExistsError` if `target` exists, and any other `OSError` about it.
    """
    remove_left_drafts(target.parent)
    descriptor, draft = tempfile.mkstemp(".draft", ".roster-", dir=target.parent)
    try:
        yield Path(draft)
        os.fsync(descriptor)
        os.link(draft, target)
        sync_folder(target.parent)
    finally:
        os.close(descriptor)
        Path(draft).unlink()


def sync_folder(folder: Path) -> None:
    """Make the names of the files in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbered(path: Path) -> Iterator[Path]:
    """Yield `path`, then the same with .1, .2 and so on, until one is free."""
    yield path
    for number in count(1):
        yield path.with_name(f"{path.name}.{number}")
