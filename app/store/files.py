"""Files that are whole, on the disk, or not there at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a draft to be filled, which becomes `target` when the block ends; its owner's alone.

    Raises `FileExistsError` rather than replace anything, and any other `OSError` of `target`.
    """
    descriptor, draft = tempfile.mkstemp(prefix=".roster-", dir=target.parent)
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
