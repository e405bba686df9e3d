"""What the catalogue needs of a store: the feed that workers follow, and one write.

The contract is written here; ``app.store`` says only what is particular to SQL. Every method
raises `StoreUnavailable` when the database cannot be read or written.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from app.catalog.keys import ApiKey
from app.catalog.model import Model


class Position(NamedTuple):
    """The last committed change of a store, and so the state that it is in."""

    #: Its number. After a failover or a restore that lost changes, others get the same numbers.
    revision: int
    #: A random text that no other change has or had; a program of schema 2 leaves the last one.
    mark: str


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """Everything the store has at one revision."""

    revision: int
    models: Sequence[Model]
    keys: Sequence[ApiKey]
    #: See `Position`.
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different at `revision`: by id the entry, None when it is gone; keys by kid."""

    revision: int
    models: Mapping[str, Model | None]
    keys: Mapping[str, ApiKey]
    #: See `Position`.
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, for the log."""

    #: Such as ``key:7fGh2kLm``, ``cli:anna`` or ``start``.
    name: str
    #: Of the HTTP request that asks for the change.
    request_id: str | None = None
    #: The id of its key; None for the command line, which needs none.
    kid: str | None = None


class Feed(Protocol):
    """How a worker follows the store."""

    def position(self) -> Position:
        """Return how far the store has come: one tiny read."""
        ...

    def load(self, *, standby: bool = False) -> StoredCatalog:
        """Return all entries and keys, as one transaction saw them.

        `standby` asks for those of a server that follows another one, which may be old.
        """
        ...

    def changes_since(self, position: Position) -> Changes | None:
        """Return what changed after `position`, as one transaction saw it.

        None when the log does not say: it lacks a revision, or `position` itself because that
        change was lost, or put there by no change.
        """
        ...


class Transaction(Protocol):
    """One write: all of it is durable when the block ends, or none of it ever was.

    Where the database does not say which, the block ends with `ChangeUncertain`.

    Each change takes the next revision and leaves one line in the log. A block that changes
    nothing takes no revision.
    """

    def model(self, model_id: str) -> Model | None:
        """Return the entry as it is now, after every write before this one."""
        ...

    def put_model(self, model: Model, before: Model | None) -> Model:
        """Store `model` in place of `before` and return it with its revision."""
        ...

    def remove_model(self, before: Model) -> None:
        """Remove the entry."""
        ...

    def key(self, kid: str) -> ApiKey | None:
        """Return the key as it is now."""
        ...

    def put_key(self, key: ApiKey, before: ApiKey | None, action: str) -> None:
        """Store `key` in place of `before`; `action` is what the log calls it."""
        ...


class Writer(Protocol):
    """How a change gets into the store."""

    def transaction(self, *, actor: Actor, now: int) -> AbstractContextManager[Transaction]:
        """Open a transaction for `actor` at `now` (Unix seconds), after all others."""
        ...
