"""Filters: which entries and keys an administrator asks for, beside owner, text and page."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any, NamedTuple, Self

from app.catalog.errors import InvalidValue, quote
from app.catalog.history import Entries, read_time
from app.catalog.keys import STATES, ApiKey
from app.catalog.lifecycle import is_live, is_retired, shutdown_time, stage_of
from app.catalog.model import Model, Rule
from app.catalog.paging import Page, Window, cut
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Viewer, effective_grants, is_visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Conditions on an entry, which must all hold; None is no condition."""

    #: The type of the model.
    type: str | None = None
    #: Capabilities or ``supported_parameters`` that the model has, with commas in between.
    supports: str | None = None
    #: Tokens: the least ``context_length``.
    min_context: int | None = None
    #: One of the tags.
    tag: str | None = None
    #: The source that brought the entry: see `app.catalog.model.Model`.
    source: str | None = None
    #: The stage of the entry's life: see `app.catalog.lifecycle.stage_of`.
    lifecycle: str | None = None
    #: A viewer who sees the entry.
    visible_to: Viewer | None = None
    #: Whether no viewer at all sees the entry.
    hidden: bool | None = None
    #: Unix seconds: the entry will retire before then, and has not yet.
    retiring_before: float | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Return the filter of the parameters that `query` has; raise `InvalidValue` if bad."""
        given = {name: query[name] for name in PARAMETERS if name in query}
        return cls(**{name: _READERS.get(name, str)(text) for name, text in given.items()})

    def matches(self, model: Model, now: float) -> bool:
        """Return whether all conditions hold for `model` at `now` (Unix seconds)."""
        return (
            (self.type is None or model.type == self.type)
            and (self.tag is None or self.tag in (model.tags or ()))
            and (self.source is None or model.source == self.source)
            and (self.min_context is None or (model.context_length or 0) >= self.min_context)
            and (self.supports is None or _supports(model, self.supports))
            and (self.lifecycle is None or stage_of(model, now) == self.lifecycle)
            and (self.visible_to is None or is_visible(model, self.visible_to, now))
            and (self.hidden is None or _is_hidden(model, now) == self.hidden)
            and (self.retiring_before is None or _retires(model, now, self.retiring_before))
        )


class Selection(NamedTuple):
    """Which entries an administrator asks for; without any condition equal to ``Selection()``."""

    window: Window = Window()
    condition: Filter = Filter()

    def page(self, entries: Snapshot | Entries) -> Page:
        """Return those of `entries` for which all conditions hold, in order of their ids."""
        accepts = partial(self.condition.matches, now=entries.since)
        return cut([entries.models], self.window, accepts=accepts)


#: The parameters of a filter.
PARAMETERS = tuple(field.name for field in fields(Filter))


def read_viewer(text: str) -> Viewer:
    """Return the viewer of ``ORGANIZATION`` or ``ORGANIZATION/GROUP,GROUP``."""
    organization, _, groups = text.partition("/")
    return Viewer(organization or None, frozenset(filter(None, groups.split(","))))


def select_keys(
    keys: Sequence[ApiKey], now: float, *, state: str | None, q: str | None
) -> Sequence[ApiKey]:
    """Return those of `keys` in `state` at `now` that have `q` in their name, organization or id.

    None is no condition; upper and lower case of `q` are the same. Raises `InvalidValue` for an
    unknown state.
    """
    if state not in (None, *STATES):
        names = ", ".join(STATES)
        raise InvalidValue("state", f"'state' must be one of {names}, not '{quote(state)}'.")
    text = (q or "").casefold()
    return [
        key
        for key in keys
        if state in (None, key.state(now))
        and any(text in part.casefold() for part in (key.name, key.organization or "", key.kid))
    ]


def _supports(model: Model, words: str) -> bool:
    can = {name for name, is_able in (model.capabilities or {}).items() if is_able}
    return can.union(model.supported_parameters or ()).issuperset(words.split(","))


def _is_hidden(model: Model, now: float) -> bool:
    return not is_live(model, now) or _hides(model.rule)


@lru_cache(maxsize=1000)  # many entries have the same rule
def _hides(rule: Rule) -> bool:
    return not effective_grants(rule)


def _retires(model: Model, now: float, before: float) -> bool:
    moment = shutdown_time(model)
    return moment is not None and moment < before and not is_retired(model, now)


def _read_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4000}", text, re.ASCII):
        raise InvalidValue(
            "min_context", f"'min_context' must be a whole number, not '{quote(text)}'."
        )
    return int(text)


def _read_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidValue("hidden", f"'hidden' must be true or false, not '{quote(text)}'.")
    return text == "true"


#: What reads the text of a parameter that is no word.
_READERS: Mapping[str, Callable[[str], Any]] = {
    "min_context": _read_number,
    "visible_to": read_viewer,
    "hidden": _read_boolean,
    "retiring_before": partial(read_time, "retiring_before"),
}
