"""The first admin key: a store without any key cannot be administered over HTTP."""

import os
from pathlib import Path

from app.catalog import keys
from app.catalog.errors import StoreRefused
from app.catalog.keys import ADMIN
from app.catalog.ports import Transaction
from app.settings import Settings
from app.store.files import sync_folder


def add_first_key(transaction: Transaction, settings: Settings, now: int) -> None:
    """Give a store without keys the operator's key, or else one of our own making.

    Our own is written to its file before it is stored: after a crash in between, the next start
    finds a store without keys beside the file, and takes the key from there.
    """
    path = settings.admin_key_file
    if path is None:
        path = settings.first_key_path
        if not path.exists():
            _write(path, keys.mint())
    _add(transaction, path, now)


def add_given_key(transaction: Transaction, settings: Settings, now: int) -> None:
    """Add the key of ``ROSTER_ADMIN_KEY_FILE`` unless it is there, be it revoked."""
    if settings.admin_key_file is not None:
        _add(transaction, settings.admin_key_file, now)


def _add(transaction: Transaction, path: Path, now: int) -> None:
    name = f"first key, from {path.name}"
    key = keys.describe(_read(path), name=name, scopes=(ADMIN,), created=now)
    stored = transaction.key(key.kid)
    if stored is None:
        transaction.put_key(key, None, "key.create")
    elif stored.digest != key.digest:
        raise StoreRefused(f"The key in {path} has the id {key.kid} of another key.")


def _read(path: Path) -> str:
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreRefused(f"The admin key cannot be read from {path}: {error}") from error
    if keys.parse_kid(text) is None:
        raise StoreRefused(
            f"{path} does not hold one well-formed key (ro_…): correct it or remove it."
        )
    return text


def _write(path: Path, secret: str) -> None:
    """Make `path` with the key in it, for its owner alone; whole, durably, or not at all."""
    # The caller holds the writers' lock: a draft that lies there is of a crash.
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)
