"""The wire shapes: one catalogue, several ways of saying it.

Every dialect has the same face, `Dialect`, and is one file: what it declares as data decides
which requests are its own, what it defines makes bytes of models and errors. None knows another,
and none knows Flask. ``CONTRIBUTING.md`` has the recipe for one more.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from app.catalog.errors import InvalidValue, quote
from app.catalog.ids import problem_with_id
from app.catalog.model import Model
from app.catalog.paging import Page, Window

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

    @property
    def advice(self) -> str:
        """Return what to append to the message about a model that has a replacement."""
        if self.replacement is None:
            return ""
        return f": it was retired, use '{self.replacement}' instead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Where the clients of a vendor ask, if not at ``/v1/models`` alone."""

    #: Every path under it is the dialect's, known or not; all the others here are.
    prefix: str
    #: GET answers the list.
    listing: str
    #: GET answers the model whose id follows.
    entry: str | None = None
    #: POST answers the model whose id is in the JSON body, in the first of `lookup_fields`
    #: that has a value.
    lookup: str | None = None
    lookup_fields: Sequence[str] = ()
    #: GET answers what is always the same, and needs no key.
    constants: Mapping[str, bytes] = field(default_factory=dict)


class Dialect(ABC):
    """What a dialect is: which requests are its own, and how it says things."""

    #: Its name in logs.
    name: ClassVar[str]
    #: Its own routes; ``/v1/models`` it shares with the others.
    routes: ClassVar[Routes | None] = None
    #: Headers that say that a request is written in it, whatever their value.
    headers: ClassVar[Sequence[str]] = ()
    #: The query parameter that may hold the key, if the vendor's clients send it there. It says
    #: so too, where there is no Authorization.
    key_parameter: ClassVar[str | None] = None
    #: Whether its replies have what `app.catalog.visibility.shown` hides from some viewers. Where
    #: not, all who see the same entries share their replies.
    shows_permission: ClassVar[bool] = True
    #: Takes the place of ``ROSTER_AUTH`` for its requests, unless that is ``off``.
    auth: str | None = None

    @abstractmethod
    def window(self, query: Mapping[str, str]) -> Window:
        """Return which part of the list is asked for; `InvalidValue` names a bad parameter."""

    @abstractmethod
    def entry(self, model: Model) -> bytes:
        """Return one model as JSON, the reply to a retrieval."""

    def item(self, model: Model) -> bytes:
        """Return one model as JSON, a piece of every list: the same, unless the vendor differs."""
        return self.entry(model)

    @abstractmethod
    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:
        """Return a list as JSON, of the `items` that belong to `page`."""

    @abstractmethod
    def error(self, problem: Problem) -> bytes:
        """Return an error as JSON."""


class Dialects:
    """The dialects of an application, and which of them a request is written in.

    Its path says it, else its headers: these are asked for in the order given. The last dialect
    is that of everyone else, and of administration and operation.
    """

    def __init__(self, *dialects: Dialect) -> None:
        self._all = dialects
        self.default = dialects[-1]
        #: Every header that selects a dialect.
        self.headers = [name for dialect in reversed(dialects) for name in dialect.headers]
        self._prefixes = [(d.routes.prefix, d) for d in dialects if d.routes is not None]
        self._signs = [(d, [*map(_cgi_name, d.headers)], d.key_parameter) for d in dialects]

    def __iter__(self) -> Iterator[Dialect]:
        return iter(self._all)

    def choose(self, path: str, environ: Mapping[str, Any], query: Mapping[str, str]) -> Dialect:
        """Return the dialect of a request; `environ` has its headers under their CGI names."""
        for prefix, dialect in self._prefixes:
            if path.startswith(prefix):
                return dialect
        for dialect, names, parameter in self._signs:
            for name in names:
                if name in environ:
                    return dialect
            if parameter in query and not environ.get("HTTP_AUTHORIZATION"):
                return dialect
        return self.default


def _cgi_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def rfc3339(seconds: int) -> str:
    """Return a moment in Unix seconds as vendors write it, such as 2021-07-20T10:40:00Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def enclose(head: bytes, items: Sequence[bytes], tail: bytes) -> bytes:
    """Return `items` with commas between `head` and `tail`, copied once: they may be long."""
    if not items:
        return head + tail
    pieces = list(items)
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


def id_parameter(name: str, text: str | None) -> str | None:
    """Return the value of a parameter that is the id of a model, there or not, or None."""
    if text is not None and problem_with_id(text):
        raise InvalidValue(name, f"'{name}' must be the id of a model.")
    return text
