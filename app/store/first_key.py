"""The first admin key: without one, nobody can administer the store over HTTP."""

import codecs
import logging
import os
from pathlib import Path

from app.catalog import keys
from app.catalog.errors import StoreRefused
from app.catalog.keys import ADMIN
from app.catalog.ports import Transaction
from app.settings import Settings
from app.store.files import OTHERS, check_own, chmod, denied, own_file, sync_folder

_log = logging.getLogger(__name__)

#: The byte order marks of UTF-8 and of UTF-16, with which editors of Windows begin a text.
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def add_first_key(transaction: Transaction, settings: Settings, now: int) -> None:
    """Add the operator's key to a store without keys, or else a new one.

    A new one is written to its file before it is stored: after a crash in between, the next start
    takes the key from the file.
    """
    if settings.admin_key_file is None and check_own(settings.first_key_path) is None:
        _write(settings.first_key_path, keys.mint())
    _add(transaction, settings, now)


def add_given_key(transaction: Transaction, settings: Settings, now: int) -> None:
    """Add the key of ``ROSTER_ADMIN_KEY_FILE`` unless it is stored, even as a revoked one."""
    path = settings.admin_key_file
    if path is not None:
        _add(transaction, settings, now)
        if path.stat().st_mode & OTHERS:  # as orchestrators mount it
            _log.warning("Others on this host may read the admin key: %s", chmod(path))


def read_key_file(settings: Settings) -> str:
    """Return the text of the file that the operator named, or else of ours.

    The operator's may be a link. Raises `StoreRefused` if others may read ours, `OSError` and
    `UnicodeDecodeError`.
    """
    if settings.admin_key_file is not None:
        return settings.admin_key_file.read_text("ascii").strip()
    path = settings.first_key_path
    with own_file(path, os.O_RDONLY) as descriptor:
        if os.fstat(descriptor).st_mode & OTHERS:
            raise StoreRefused(
                f"Others on this host may read the admin key: run {chmod(path)}. If they did, "
                "make another with 'flask keys create NAME --admin' and revoke this one."
            )
        return os.read(descriptor, 1000).decode("ascii").strip()


def _add(transaction: Transaction, settings: Settings, now: int) -> None:
    path = settings.admin_key_file or settings.first_key_path
    name = f"first key, from {path.name}"
    key = keys.describe(_read(path, settings), name=name, scopes=(ADMIN,), created=now)
    stored = transaction.key(key.kid)
    if stored is None:
        transaction.put_key(key, None, "key.create")
    elif stored.digest != key.digest:
        raise StoreRefused(f"The key in {path} has the id {key.kid} of another key.")


def _read(path: Path, settings: Settings) -> str:
    try:
        text = read_key_file(settings)
    except (OSError, UnicodeDecodeError) as error:
        why = denied(path) if isinstance(error, PermissionError) else str(error)
        if isinstance(error, UnicodeDecodeError) and error.object.startswith(_MARKS):
            why = "it begins with a byte order mark. Save it as plain text, in ASCII."
        raise StoreRefused(f"The admin key cannot be read from {path}: {why}") from error
    if keys.parse_kid(text) is None:
        raise StoreRefused(
            f"{path} does not hold one well-formed key (ro_…): correct it or remove it."
        )
    return text


def _write(path: Path, secret: str) -> None:
    """Make `path` with the key in it, for its owner alone; whole, durably, or not at all."""
    # The caller holds the writers' lock: a draft that exists was left by a crash.
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)
