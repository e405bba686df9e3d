"""The wire shapes: one catalogue, several ways of saying it.

Every dialect has the same face, `Dialect`, and is one file. None knows another, and none knows
Flask: what a dialect is given is path, headers and parameters as plain mappings, what it gives
back is bytes.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from app.catalog.errors import InvalidValue, quote
from app.catalog.model import Model
from app.catalog.snapshot import Page, Window

#: The largest page that may be asked for, in entries.
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error on its way out, before a dialect words it."""

    status: int
    code: str | None
    message: str
    param: str | None = None
    #: Sentences by dotted field name.
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Of a model that was not found: its id, and the one to use instead.
    model_id: str | None = None
    replacement: str | None = None
    request_id: str


class Headers(Protocol):
    """The headers of a request, as far as a dialect needs them: which are there, in any case."""

    def __contains__(self, name: str, /) -> bool:
        """Tell whether the header is there."""
        ...


class Dialect(ABC):
    """What a dialect is: which requests are its own, and how it says things."""

    #: Its name in logs.
    name: ClassVar[str]
    #: The query parameter that may hold the key, if the vendor's clients send it there.
    key_parameter: ClassVar[str | None] = None

    @abstractmethod
    def matches(self, path: str, headers: Headers, query: Mapping[str, str]) -> bool:
        """Tell whether a request is written in this dialect."""

    @abstractmethod
    def window(self, query: Mapping[str, str]) -> Window:
        """Return which part of the list is asked for; `InvalidValue` names a bad parameter."""

    @abstractmethod
    def entry(self, model: Model) -> bytes:
        """Return one model as JSON: the reply to a retrieval, and a piece of every list."""

    @abstractmethod
    def listing(self, entries: Sequence[bytes], page: Page, window: Window) -> bytes:
        """Return a list as JSON, of the `entries` that belong to `page`."""

    @abstractmethod
    def error(self, problem: Problem) -> bytes:
        """Return an error as JSON."""


def enclose(head: bytes, entries: Sequence[bytes], tail: bytes) -> bytes:
    """Return `entries` with commas between `head` and `tail`, copied once: they may be long."""
    if not entries:
        return head + tail
    pieces = list(entries)
    pieces[0] = head + pieces[0]
    pieces[-1] += tail
    return b",".join(pieces)


def whole_parameter(name: str, text: str, most: int = MAX_LIMIT) -> int:
    """Return the value of a parameter that is a whole number of 1 to `most`."""
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise InvalidValue(
            name, f"'{name}' must be a whole number from 1 to {most}, not '{quote(text)}'."
        )
    return int(text)
