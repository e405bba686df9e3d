"""The wire formats: one `Dialect` for each kind of client, in one file each.

The attributes of a dialect decide which requests are in it; its methods read parameters, and
encode models and errors. Dialects import neither each other nor Flask: what several need is in
``parameters`` and ``encoding``. ``CONTRIBUTING.md`` has the recipe for one more.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.catalog.model import Model
from app.catalog.paging import Page, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a dialect needs to know of an error to encode it."""

    status: int
    code: str | None
    message: str
    param: str | None = None
    #: Sentences by dotted field name.
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Of a model that was not found: its id, and the id of its replacement.
    model_id: str | None = None
    replacement: str | None = None
    #: A sentence about what to do instead, if there is one.
    hint: str = ""
    request_id: str

    def advise(self, message: str) -> str:
        """Return a vendor's message with the replacement of a retired model, or with the hint."""
        if self.replacement is not None:
            return f"{message}: it was retired, use '{self.replacement}' instead"
        return f"{message.removesuffix('.')}. {self.hint}" if self.hint else message


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The routes of a dialect beside ``/v1/models``."""

    #: All paths that begin with it are in the dialect, unknown ones too; so do the other paths.
    prefix: str
    #: GET returns the list.
    listing: str
    #: GET returns the model whose id follows.
    entry: str | None = None
    #: POST returns the model whose id is in the JSON body, in the first of `lookup_fields`
    #: that has a value.
    lookup: str | None = None
    lookup_fields: Sequence[str] = ()
    #: By path, what GET always returns.
    constants: Mapping[str, bytes] = field(default_factory=dict)
    #: Those of its paths that need no key.
    keyless: Sequence[str] = ()


class Dialect(ABC):
    """The wire format of one kind of client."""

    #: The name in logs.
    name: ClassVar[str]
    #: Its own routes; all dialects share ``/v1/models``.
    routes: ClassVar[Routes | None] = None
    #: Request headers that select the dialect, whatever their value.
    headers: ClassVar[Sequence[str]] = ()
    #: The query parameter that may hold the key, if the vendor's clients send it there. It selects
    #: the dialect too, unless there is an Authorization header.
    key_parameter: ClassVar[str | None] = None
    #: The end that its clients add to names: without it a model is found, too, if none has it.
    default_tag: ClassVar[str] = ""
    #: Whether replies contain what an `app.catalog.visibility.Excerpt` may leave out. If not, all
    #: viewers of the same entries share their replies.
    shows_permission: ClassVar[bool] = True
    #: Replaces ``ROSTER_AUTH`` for requests in the dialect, unless that is ``off``.
    auth: str | None = None

    @abstractmethod
    def window(self, query: Mapping[str, str]) -> Window:
        """Return the part of the list that `query` asks for; raise `InvalidValue` if it is bad."""

    @abstractmethod
    def entry(self, model: Model) -> bytes:
        """Return a model as JSON: the reply to its retrieval."""

    def item(self, model: Model) -> bytes:
        """Return a model as JSON: an item of lists, which is `entry` unless the vendor differs."""
        return self.entry(model)

    @abstractmethod
    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:
        """Return a list as JSON; `items` are the encoded models of `page`."""

    @abstractmethod
    def error(self, problem: Problem) -> bytes:
        """Return an error as JSON."""


class Dialects:
    """The dialects of an application, from which each request selects one.

    The path selects it, or else the headers do, of the first dialect given first. The last dialect
    is the default, and that of administration and operation.
    """

    def __init__(self, *dialects: Dialect) -> None:
        self._all = dialects
        self.default = dialects[-1]
        #: Every header that selects a dialect.
        self.headers = [name for dialect in reversed(dialects) for name in dialect.headers]
        self._prefixes = [(d.routes.prefix, d) for d in dialects if d.routes is not None]
        self._selectors = [(d, [*map(cgi_name, d.headers)], d.key_parameter) for d in dialects]

    def __iter__(self) -> Iterator[Dialect]:
        return iter(self._all)

    def choose(self, path: str, environ: Mapping[str, Any], query: Mapping[str, str]) -> Dialect:
        """Return the dialect of a request; `environ` has its headers by CGI name."""
        for prefix, dialect in self._prefixes:
            if path.startswith(prefix):
                return dialect
        for dialect, names, parameter in self._selectors:
            for name in names:
                if name in environ:
                    return dialect
            if parameter in query:
                given = environ.get("HTTP_AUTHORIZATION", "").strip(" \t").lower()
                if given in ("", "bearer"):  # a scheme with nothing behind it is no key
                    return dialect
        return self.default


def cgi_name(header: str) -> str:
    """Return the name of a request header in a WSGI environment."""
    return "HTTP_" + header.upper().replace("-", "_")
