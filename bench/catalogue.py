"""Catalogues of any size: written once with the service's own store, then copied."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.administration import Administration
from app.catalog.model import Model
from app.settings import Settings
from app.store.engine import sqlite
from app.store.store import Store

_OWNERS = ("openai", "anthropic", "google", "meta", "mistral", "acme", "custom")
_CREATED = 1_626_777_600


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An instance folder with entries, and keys to them."""

    instance: Path
    size: int
    #: A key of an organization; it sees what everybody sees.
    key: str
    admin_key: str

    @property
    def read(self) -> dict[str, str]:
        """Return the headers of a reader with a key."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def admin(self) -> dict[str, str]:
        """Return the headers of an administrator."""
        return {"Authorization": f"Bearer {self.admin_key}"}


@dataclass(slots=True)
class Catalogues:
    """Where the sections get theirs, below `folder`."""

    folder: Path
    _made: dict[int, Catalogue] = field(default_factory=dict)
    _copies: int = 0

    def of(self, size: int) -> Catalogue:
        """Return a catalogue of `size` entries that nobody else writes to."""
        if size not in self._made:
            self._made[size] = _make(self.folder / f"catalogue-{size}", size)
        made = self._made[size]
        self._copies += 1
        target = self.folder / f"instance-{self._copies}"
        shutil.copytree(made.instance, target)  # no process has it open
        return Catalogue(target, size, made.key, made.admin_key)


def model_id(number: int) -> str:
    """Return the id of an entry, as long as real ones are."""
    return f"{_OWNERS[number % len(_OWNERS)]}/chat-large-{number:06}"


def new_entry(number: int) -> dict[str, Any]:
    """Return the fields of an entry, as an administrator sends them."""
    return {
        "id": model_id(number),
        "owned_by": _OWNERS[number % len(_OWNERS)],
        "created": _CREATED + number,
    }


def _make(instance: Path, size: int) -> Catalogue:
    settings = Settings(instance_path=instance)
    store = Store(settings, time.time)
    store.open(create=True)
    now = int(time.time())
    try:
        with store.transaction(actor="bench", now=now) as transaction:
            for number in range(size):
                transaction.put_model(Model.compose(new_entry(number), now=now), None)
        administration = Administration(store, time.time)
        _, key = administration.create_key(
            {"name": "bench", "organization": "acme"}, actor="bench"
        )
    finally:
        store.close()
    return Catalogue(instance, size, key, settings.first_key_path.read_text().strip())


def write_naive(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write the entries of a reply to a database as a naive service has it: a column a field."""
    with closing(sqlite.connect(str(path))) as connection, connection:
        connection.execute(
            "CREATE TABLE models (id TEXT PRIMARY KEY, created INTEGER, owned_by TEXT, "
            "permission TEXT, root TEXT, parent TEXT)"
        )
        names = ("id", "created", "owned_by", "permission", "root", "parent")
        connection.executemany(
            "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)",
            (
                [json.dumps(e[name]) if name == "permission" else e[name] for name in names]
                for e in entries
            ),
        )
