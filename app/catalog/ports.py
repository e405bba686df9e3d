"""The interface of a store: the feed that workers read, and the transaction of a write.

The contract is here; ``app.store`` documents only what is particular to SQL. Every method raises
`StoreUnavailable` if the database cannot be read or written.
"""

from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from app.catalog.history import Act, Line, LogFilter, Setters
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.sources import FailedRun, GoodRun

_FIELDS = [field.name for field in fields(Model) if field.compare]


class Position(NamedTuple):
    """The last committed change of a store, which identifies its state."""

    #: Its number. After a failover or restore that lost changes, others get the same numbers.
    revision: int
    #: A random text, unique to the change; a program of schema 2 does not set a new one.
    mark: str


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """All entries and keys of the store at one revision."""

    revision: int
    models: Sequence[Model]
    keys: Sequence[ApiKey]
    #: See `Position`.
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes up to `revision`: by id the entry, None if it was removed; keys by kid."""

    revision: int
    models: Mapping[str, Model | None]
    keys: Mapping[str, ApiKey]
    #: See `Position`.
    mark: str = ""


class Change(NamedTuple):
    """One entry before and after; None if it is not there."""

    before: Model | None
    after: Model | None

    @property
    def id(self) -> str:
        """Return the id of the entry."""
        model = self.after or self.before
        assert model is not None, "a change has one of the two"  # noqa: S101
        return model.id

    @property
    def kind(self) -> str:
        """Return ``added``, ``changed`` or ``removed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return by field the old and the new value, of those that differ."""
        pairs = ((n, getattr(self.before, n, None), getattr(self.after, n, None)) for n in _FIELDS)
        return {name: (old, new) for name, old, new in pairs if old != new}


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change, for the log."""

    #: Such as ``key:7fGh2kLm``, ``cli:anna`` or ``start``.
    name: str
    #: The id of the HTTP request.
    request_id: str | None = None
    #: The id of the key; None for the command line, which needs no key.
    kid: str | None = None


class Feed(Protocol):
    """What a worker reads of the store."""

    def position(self) -> Position:
        """Return the last change: one tiny read."""
        ...

    def load(self, *, standby: bool = False) -> StoredCatalog:
        """Return all entries and keys, read in one transaction.

        With `standby`, those of a standby server, which may be old.
        """
        ...

    def changes_since(self, position: Position) -> Changes | None:
        """Return what changed after `position`, read in one transaction.

        None if the log cannot answer: it lacks a revision, or `position` is not in it, because
        that change was lost or was not logged.
        """
        ...

    def own_changes(self, position: Position, newest: Position) -> Changes | None:
        """Return what changed between two positions, without reading; no key is among that.

        None unless it is known that this process has made all of these changes.
        """
        ...


class Transaction(Protocol):
    """One write: when the block ends, all of it is durable, or none of it is stored.

    If the database does not confirm which, the block ends with `ChangeUncertain`.

    Each change takes the next revision and adds one line to the log. A block that changes nothing
    takes no revision.
    """

    def models_of(self, ids: Sequence[str]) -> Mapping[str, Model]:
        """Return the entries that have one of `ids` as id or alias, as earlier writes left them.

        They are by that id or alias. If one is both, as an older program may leave it, the entry
        with the id counts.
        """
        ...

    @property
    def base(self) -> Position:
        """Return the last change before this transaction."""
        ...

    def write(self, changes: Sequence[Change], action: str | None = None) -> int:
        """Store `changes`, which are of different entries, and return the last revision.

        The log calls each of them `action`; None is ``model.create``, ``model.update`` or
        ``model.delete``.
        """
        ...

    def key(self, kid: str) -> ApiKey | None:
        """Return the key, as all earlier writes left it."""
        ...

    def admin_keys(self) -> Sequence[ApiKey]:
        """Return all keys with the scope ``admin``, as earlier writes left them."""
        ...

    def put_key(self, key: ApiKey, before: ApiKey | None, action: str) -> None:
        """Store `key` instead of `before`; `action` is the name of the change in the log."""
        ...


class Log(Protocol):
    """What the log of the store has of earlier changes.

    `ids_changed_since`, `act`, `changes_of` and `past` raise `HistoryPruned` where lines that they
    need may have been removed.
    """

    def setters(self, ids: Sequence[str], source: str) -> Mapping[str, Setters]:
        """Return by id who has set the fields of these entries."""
        ...

    def ids_changed_since(self, revision: int) -> Set[str]:
        """Return the ids of the entries that the log changes after `revision`."""
        ...

    def last_changes(self, ids: Sequence[str], after: int) -> Mapping[str, tuple[int, str]]:
        """Return by id revision and actor of the last change after the revision `after`."""
        ...

    def lines(self, selection: LogFilter, limit: int) -> Sequence[Line]:
        """Return the first `limit` lines that `selection` asks for, newest first."""
        ...

    def act(self, revision: int) -> Act | None:
        """Return the act that has this revision, None if no line has."""
        ...

    def check_begin(self, revision: int) -> None:
        """Raise `HistoryPruned` if lines after `revision` may have been removed."""
        ...

    def changes_of(self, act: Act, model_id: str | None = None) -> Sequence[Change]:
        """Return what an act has changed, each entry once; `HistoryPruned` if lines are gone."""
        ...

    def revision_at(self, moment: float) -> int:
        """Return the last revision up to a time (Unix seconds), 0 before the first.

        Raises `RevisionUnknown` where the log lacks the changes around that time.
        """
        ...

    def past(
        self, revision: int, position: Position, model_id: str | None = None
    ) -> tuple[int, Mapping[str, Model | None]]:
        """Return what the catalogue at `position`, or only one entry, was at `revision`.

        These are the time of that change in Unix seconds, and by id each entry that was changed
        later, as it was; None if it was not there.

        Raises `HistoryPruned` before the log begins, `RevisionUnknown` where no line has this
        revision, and `StoreUnavailable` if that is later than `position`, or if the log has lost
        changes up to `position`.
        """
        ...


class Writer(Feed, Protocol):
    """What a change needs of the store."""

    @property
    def log(self) -> Log:
        """Return the log."""
        ...

    def record_run(
        self, name: str, run: GoodRun | FailedRun, *, known_format: str | None = None
    ) -> None:
        """Record how an import from the source `name` ended; this takes no revision."""
        ...

    def transaction(self, *, actor: Actor, now: int) -> AbstractContextManager[Transaction]:
        """Open a transaction for `actor` at `now` (Unix seconds), after all earlier ones."""
        ...
