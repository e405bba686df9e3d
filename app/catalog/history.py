"""The log of changes: its lines, and who has set which fields of an entry."""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple, Self

from app.catalog.errors import InvalidValue, quote
from app.catalog.lifecycle import read_moment
from app.catalog.model import Model
from app.catalog.ordered import OrderedModels

#: The actions that take changes back; the number is a revision.
_RETURN = re.compile(r"(undo|revert):([0-9]+)", re.ASCII)
#: A revision where a time may be, too. Unix seconds have more digits: see `read_moment`.
REVISION = re.compile(r"[0-9]{1,8}", re.ASCII)
#: The end of a time whose zone has lost its sign.
_SPACE_FOR_PLUS = re.compile(r"T\S+ \d\d:?\d\d$", re.ASCII)
#: What `deciding` has in the place of field and setter of an entry that is removed.
_REMOVAL = ("", "")


class Line(NamedTuple):
    """A line of the log: one change of an entry or of a key."""

    revision: int
    #: Unix seconds.
    at: int
    #: Who has made the change: see `app.catalog.ports.Actor`.
    actor: str
    #: Such as ``model.update``, ``import:models.dev`` or ``undo:12``.
    action: str
    #: The first revision of its transaction.
    batch: int
    #: The id of the HTTP request; None for the command line and a server's start.
    request_id: str | None
    #: The id of the entry, or of the key; the other one is None.
    model_id: str | None
    kid: str | None
    #: What was stored, and what is stored since; None if it is not there.
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """Return ``added``, ``changed`` or ``removed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return by field the old and the new value, of those that differ; None is no value."""
        old, new = self.before or {}, self.after or {}
        names = dict.fromkeys((*old, *new))
        return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


class LogFilter(NamedTuple):
    """Conditions on a line, which must all hold; None is no condition."""

    #: The id of the entry.
    model: str | None = None
    actor: str | None = None
    #: Unix seconds: from when on, and until before when.
    since: int | None = None
    until: int | None = None
    #: The first revision of the transaction.
    batch: int | None = None
    #: A revision: only older lines.
    after: int | None = None
    #: Whether lines about keys are left out.
    of_entries: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Return the filter of the parameters that `query` has; raise `InvalidValue` if bad."""
        given: dict[str, Any] = {name: query[name] for name in LOG_PARAMETERS if name in query}
        for name in given.keys() & {"since", "until"}:
            given[name] = ceil(read_time(name, given[name]))
        for name in given.keys() & {"batch", "after"}:
            given[name] = read_revision(name, given[name])
        return cls(**given)


#: The parameters of a filter of the log.
LOG_PARAMETERS = ("model", "actor", "since", "until", "batch", "after")


class Act(NamedTuple):
    """The lines of one transaction, and how many of each kind there are."""

    #: The first revision, and the last one.
    batch: int
    last: int
    #: Unix seconds.
    at: int
    actor: str
    action: str
    #: How many entries were added, changed and removed.
    added: int
    changed: int
    removed: int
    #: How many lines are about keys.
    keys: int


class Moment(NamedTuple):
    """A revision, and the time (Unix seconds) that was asked for; None if a revision was."""

    revision: int
    time: float | None


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries at a moment."""

    #: In order of id.
    models: OrderedModels
    #: The moment, in Unix seconds.
    since: float

    def get(self, name: str) -> Model | None:
        """Return the entry with this id or alias."""
        holders = (model for model in self.models if name in (model.aliases or ()))
        return self.models.get(name) or next(holders, None)


class Setters(NamedTuple):
    """Who has set the fields of an entry."""

    #: Those that a person has changed since the entry is of the source, and the source has not
    #: since.
    held: Set[str] = frozenset()
    #: Those that the source was the last to change.
    own: Set[str] = frozenset()
    #: Whether a person has removed the entry.
    is_removed: bool = False
    #: Whether the source has written the entry, or an export has named the source.
    is_ours: bool = False


def read_lines(lines: Iterable[Line], source: str) -> Setters:
    """Return who has set the fields, from the lines of the log of one entry, oldest first.

    What is taken back is as if it had not been: fields have the setters that they had before.
    """
    now = Setters()
    states = [(0, now)]
    for line in lines:
        fields = line.differences().keys()
        by_person = line.action.startswith("model.")
        if (revision := revision_returned_to(line.action)) is not None:
            # A restored log may have taken back what comes before all changes.
            earlier = (state for number, state in reversed(states) if number <= revision)
            now = next(earlier, Setters())
        elif line.after is None:
            now = Setters(is_removed=by_person and now.is_ours)
        elif line.action == f"import:{source}":
            now = Setters(now.held - fields, now.own | fields, is_ours=True)
        else:
            is_ours = now.is_ours or line.after.get("source") == source
            held = now.held | fields if by_person and is_ours else now.held
            now = Setters(held, now.own - fields, is_ours=is_ours)
        states.append((line.revision, now))
    return now


def deciding(lines: Iterable[Line], pruned: int) -> tuple[int, Set[int]]:
    """Return which lines up to the revision `pruned` may be removed from the log of one entry.

    These are the lines up to the first result whose revisions are not in the second. `lines` are
    all of the entry, newest first; of those after `pruned` only the actions count. Without what
    may be removed, `read_lines` has the same results for each source, also after further lines
    that return to `pruned` or later. That holds at any time if the oldest are removed first.
    """
    unchanged = returned = pruned
    # By field and what has set it, the last line; of each source, the first that names it.
    last: dict[tuple[str, str], int] = {}
    named: dict[str, int] = {}
    is_over = False
    for line in lines:
        target = revision_returned_to(line.action)
        by_person = line.action.startswith("model.")
        if line.revision > unchanged:
            # If it returns to before `pruned`, what has decided then is needed, too.
            unchanged = min(unchanged, unchanged if target is None else target)
        elif line.revision > returned or is_over:
            continue
        elif target is not None:
            returned = target
        elif line.after is None:
            # Whether a source hears of a removal depends on the lines before that name it.
            is_over = bool(last) or not by_person
            if not is_over:
                last[_REMOVAL] = line.revision
        else:
            setter = "" if by_person else line.action
            for field in line.differences() if _REMOVAL not in last else ():
                last.setdefault((field, setter), line.revision)
            for source in (line.after.get("source"), _source_of(line.action)):
                if isinstance(source, str):
                    named[source] = line.revision
    return unchanged, {pruned, *(last.values() if named else ()), *named.values()}


def _source_of(action: str) -> str | None:
    """Return the source whose import has done this; None if no import has."""
    kind, _, source = action.partition(":")
    return source if kind == "import" else None


def read_revision(name: str, text: str) -> int:
    """Return the revision in the parameter `name`; raise `InvalidValue` if there is none."""
    if not re.fullmatch("[0-9]{1,15}", text, re.ASCII):
        raise InvalidValue(name, f"'{name}' must be a whole number, not '{quote(text)}'.")
    return int(text)


def read_time(name: str, text: str, also: str = "") -> float:
    """Return the time (Unix seconds) in the parameter `name`; raise `InvalidValue` if bad."""
    moment = read_moment(text)
    if moment is None:
        is_of_url = _SPACE_FOR_PLUS.search(text) is not None
        advice = ": a + in a URL is a space, write it as %2B" if is_of_url else ""
        raise InvalidValue(
            name,
            f"'{name}' must be {also}a day like 2027-01-31, an RFC 3339 time or Unix seconds, "
            f"not '{quote(text)}'{advice}.",
        )
    return moment


def revision_returned_to(action: str) -> int | None:
    """Return the revision to whose state a change with this `action` has returned; None if none.

    ``undo:N`` takes back the act whose first revision is N, ``revert:N`` all that came after N.
    """
    if (found := _RETURN.fullmatch(action)) is None:
        return None
    return int(found[2]) - (found[1] == "undo")
