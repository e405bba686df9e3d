"""Files beside the database: ours and no link, and whole, on the disk, or not there at all."""

import glob
import logging
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

#: How long nothing was written to a draft that a killed process has left, in seconds.
_LEFT = 24 * 60 * 60  # a day
#: Read or write, for those who are neither the owner nor in the group. Kubernetes gives all files
#: of a volume to its group.
OTHERS = stat.S_IROTH | stat.S_IWOTH


@contextmanager
def own_file(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Give a descriptor of a file that this program made, or makes for its owner and group.

    Others may have put anything there under its name: raises `StoreRefused` as `check_own` does,
    and `OSError`. Nothing of what is there is changed, and a pipe is not waited for.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags & ~os.O_CREAT)
    except OSError:
        check_own(path)  # it has the better reason, if it is not simply missing
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
    """Refuse what belongs to others; who owns it could not use what root makes there."""
    user = os.geteuid()
    if found.st_uid == user:
        return
    what = f"as root, run 'chown -h {user} {shlex.quote(str(path))}'."
    if user == 0:
        what = (
            f"run this as that user, with 'setpriv --reuid={found.st_uid} --regid={found.st_gid} "
            f"--clear-groups {shlex.quote(sys.argv[0])} …'."
        )
    raise StoreRefused(f"{path} belongs to user {found.st_uid}, not to user {user}: {what}")


def remove_left_drafts(folder: Path) -> None:
    """Remove the drafts, often whole copies, that killed processes have left in `folder`."""
    with suppress(OSError):  # nobody waits for this
        for path in folder.glob(".roster-*.draft*"):  # also what SQLite keeps beside one
            found = path.lstat()
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if is_ours and found.st_mtime < time.time() - _LEFT:
                path.unlink()
                _log.warning("Removed %s: a process was killed before it had.", path)


def warn_of_others(path: Path) -> None:
    """Log which files others may open, of those whose names begin with `path`.

    This program makes no such files; earlier ones did, and their modes are left as they are.
    """
    with suppress(OSError):  # a start needs none of this
        files = sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
        theirs = [file for file in files if not file.is_symlink() and file.stat().st_mode & OTHERS]
        if theirs:
            _log.warning("Others on this host may read, or lock: %s", chmod(*theirs))


def chmod(*paths: Path) -> str:
    """Return the command that takes files away from others."""
    return f"'chmod o= {shlex.join(map(str, paths))}'"


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a draft to be filled, which becomes `target` when the block ends; its owner's alone.

    Raises `FileExistsError` rather than replace anything, and any other `OSError` of `target`.
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
    """Make durable which files are in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbered(path: Path) -> Iterator[Path]:
    """Yield `path`, and names like it for when that is taken."""
    yield path
    for number in count(1):
        yield path.with_name(f"{path.name}.{number}")
