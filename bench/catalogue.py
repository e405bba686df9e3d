"""Catalogues of any size: written once with the service's own store, then copied."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from app.administration import Administration
from app.catalog import keys
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.fields import PRICES
from app.settings import Settings
from app.store.sqlite.connection import sqlite
from app.store.store import Store
from bench.plan import ROOT

_OWNERS = ("openai", "anthropic", "google", "meta", "mistral", "acme", "custom")
_PARAMETERS = ("max_tokens", "reasoning", "seed", "structured_outputs", "tool_choice", "tools")
_WORDS = (ROOT / "LICENSE").read_text().split()
_CREATED = 1_626_777_600


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An instance folder with entries, and keys to them."""

    instance: Path
    size: int
    #: A key of an organization; it sees what everybody sees.
    key: str
    admin_key: str
    #: A key of each organization that has an entry of its own, in the order of `organization`.
    organization_keys: tuple[str, ...] = ()

    @property
    def read(self) -> dict[str, str]:
        """Return the headers of a reader with a key."""
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def admin(self) -> dict[str, str]:
        """Return the headers of an administrator."""
        return {"Authorization": f"Bearer {self.admin_key}"}

    def read_as(self, number: int) -> dict[str, str]:
        """Return the headers of a reader of the organization with this number."""
        return {"Authorization": f"Bearer {self.organization_keys[number]}"}


@dataclass(slots=True)
class Catalogues:
    """Where the sections get theirs, below `folder`."""

    folder: Path
    #: Whether everything is known of each entry.
    full: bool = False
    _made: dict[tuple[int, int], Catalogue] = field(default_factory=dict)
    _copies: int = 0

    def of(self, size: int, *, organizations: int = 0) -> Catalogue:
        """Return a catalogue of `size` entries that nobody else writes to.

        The last of them are private: one to each of so many `organizations`, by `private_id`.
        """
        which = size, organizations
        if which not in self._made:
            folder = self.folder / f"catalogue-{size}-{organizations}"
            entry_of = full_entry if self.full else new_entry
            self._made[which] = _make(folder, size, organizations, entry_of)
        made = self._made[which]
        self._copies += 1
        target = self.folder / f"instance-{self._copies}"
        shutil.copytree(made.instance, target)  # no process has it open
        return replace(made, instance=target)


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


def full_entry(number: int) -> dict[str, Any]:
    """Return the fields of an entry of which everything is known, about as long as real ones.

    Texts and prices differ from entry to entry, or gzip would make more of them than of real ones.
    """
    random = Random(number)  # noqa: S311 - the same entry each time
    context = random.randrange(32_000, 1_000_000)
    return {
        **new_entry(number),
        "root": f"base/chat-large-{number:06}",
        "parent": f"base/chat-medium-{number:06}",
        "name": f"Chat Large {number:06}",
        "description": " ".join(random.choices(_WORDS, k=40)),
        "aliases": [f"chat-large-{number:06}", f"claude-chat-large-{number:06}"],
        "type": "language",
        "tags": ["chat", "coding", "vision"],
        "context_length": context,
        "max_input_tokens": context * 2 // 3,
        "max_output_tokens": context // 3,
        "architecture": {
            "input_modalities": ["text", "image", "file"],
            "output_modalities": ["text"],
        },
        "supported_parameters": _PARAMETERS,
        "supported_endpoint_types": ["openai", "openai-response", "anthropic"],
        "reasoning": {
            "supported_efforts": ["low", "medium", "high"],
            "default_effort": "medium",
            "mandatory": False,
        },
        "knowledge_cutoff": "2025-08",
        "pricing": {price: f"{random.randrange(1, 5_000) / 1e8:.8f}" for price in PRICES},
        "shutdown_date": "2099-12-31",
        "deprecation": "2099-06-30T00:00:00Z",
        "deprecation_replacement_model": f"base/chat-next-{number:06}",
        "metadata": {"contact": "ai@acme.example", "region": "eu"},
    }


def organization(number: int) -> str:
    """Return the name of an organization."""
    return f"team-{number:04}"


def private_id(number: int) -> str:
    """Return the id of the entry of an organization; it is behind all public ones in order."""
    return f"{organization(number)}/chat-large"


def _make(
    instance: Path, size: int, organizations: int, entry_of: Callable[[int], dict[str, Any]]
) -> Catalogue:
    settings = Settings(instance_path=instance)
    store = Store(settings, time.time)
    store.open(create=True)
    now = int(time.time())
    try:
        with store.transaction(actor=Actor("bench"), now=now) as transaction:
            for number in range(size):
                entry = entry_of(number)
                owner = number - (size - organizations)
                if owner >= 0:
                    entry["id"] = private_id(owner)
                    entry["permission"] = [{"organization": organization(owner)}]
                transaction.write([Change(None, Model.compose(entry, now=now))])
            secrets = tuple(keys.mint() for _ in range(organizations))
            for number, secret in enumerate(secrets):  # each in a transaction takes 2 ms
                name = organization(number)
                key = keys.describe(secret, name=name, organization=name, created=now)
                transaction.put_key(key, None, "key.create")
        administration = Administration(store, time.time)
        _, key = administration.create_key(
            {"name": "bench", "organization": "acme"}, actor=Actor("bench")
        )
    finally:
        store.close()
    admin_key = settings.first_key_path.read_text().strip()
    return Catalogue(instance, size, key, admin_key, secrets)


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
