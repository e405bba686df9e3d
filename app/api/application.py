"""The short way through Flask that a ready reply takes.

A view returns a `SharedResponse`, one response for all who ask, and `Application` leaves out
what no view of ours needs. A list takes 27 µs in one process, a bare Flask view of the same
bytes 42; each of these steps left out makes it so much more:

- `SharedResponse` hands its stored header list to the server: 30 µs, against building a
  response, its headers and their WSGI form for each request;
- `Application.create_url_adapter` knows static URLs again, and looks at no host: 12 µs;
- the guard before all views, and what completes all answers, are methods and not hooks that are
  looked up by blueprint: 5 µs;
- nothing is asked whether it is a coroutine: 2 µs;
- no session is opened: less than 1 µs.

Each is a class or a method that Flask documents for replacing, but for what `FrozenHeaders` takes
from Werkzeug. ``tests/test_versions.py`` lists what of them may change with a new version.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.datastructures.mixins import ImmutableHeadersMixin
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter, Rule

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Where an exchange leaves the headers that are its own, for `SharedResponse` to add.
OWN_HEADERS = "roster.headers"


class FrozenHeaders(ImmutableHeadersMixin, Headers):  # type: ignore[misc]
    """Headers that many answers share: to change them raises, rather than leak into others."""

    def __init__(self, headers: Headers) -> None:
        super().__init__()
        self._list = list(headers)


class SharedResponse(Response):
    """One response for every request that it answers; it keeps nothing of any of them."""

    def __init__(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        super().__init__(content, status, headers)
        if status == 304:  # noqa: PLR2004 - Not Modified describes no content
            self.headers.remove("Content-Type")
            self.headers.remove("Content-Length")
        self.headers: Headers = FrozenHeaders(self.headers)
        self._stored = list(self.headers)
        self._body = [content] if content else []
        #: How many bytes the body has.
        self.length = len(content)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer, with the headers that are the request's own behind the stored ones."""
        start_response(self.status, self._stored + environ[OWN_HEADERS])
        return () if environ["REQUEST_METHOD"] == "HEAD" else self._body


class _NoSession(SessionInterface):
    """There is nothing to remember of a caller, and so nothing to open or to save."""

    _null = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        return self._null


class _UrlAdapter:
    """A URL adapter that knows static URLs again, and matches by method and path alone.

    Werkzeug's own also reads the host and ``Upgrade: websocket``, and an odd one of either is an
    error there. Here no route depends on them. What needs the host, such as ``url_for``, gets
    Werkzeug's adapter of its own request.
    """

    def __init__(
        self,
        urls: MapAdapter,
        make: Callable[[], MapAdapter],
        known: dict[tuple[str, str], tuple[Rule, dict[str, Any]]],
        request: Request,
    ) -> None:
        self._urls = urls
        self._make = make
        self._known = known
        self._request = request
        self._asked = (request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"])

    def match(self, *, method: str | None = None, return_rule: bool = False) -> Any:
        """Match as `MapAdapter.match` does; the path of ``http://host`` is ``/``."""
        plain = method is None and return_rule
        if plain and (found := self._known.get(self._asked)) is not None:
            return found
        asked, path = self._asked
        if path.startswith("//"):  # Werkzeug would take it for one slash
            raise NotFound
        found = self._urls.match(self._request.path, method or asked, return_rule)  # type: ignore[call-overload]
        if plain and not found[0].arguments:  # bounded: there are so many rules and methods
            self._known[self._asked] = found
        return found

    def allowed_methods(self) -> Iterable[str]:
        """Return the methods that the path has."""
        return self._urls.allowed_methods(self._request.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


class Application(Flask):
    """Flask, without what a service of static URLs and no sessions does not need."""

    session_interface = _NoSession()

    #: What stands before every view, and raises where a request may not pass.
    guard: Callable[[], None]
    #: What stands behind every view and every error, and completes the answer.
    finish: Callable[[Response], Response]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._urls = self.url_map.bind("localhost")
        self._known_urls: dict[tuple[str, str], tuple[Rule, dict[str, Any]]] = {}

    def create_url_adapter(self, request: Request | None) -> Any:
        """Return an adapter; Werkzeug's is made when it is needed."""
        if request is None:
            return super().create_url_adapter(None)
        make = super().create_url_adapter
        return _UrlAdapter(self._urls, lambda: make(request), self._known_urls, request)  # type: ignore[arg-type,return-value]

    def preprocess_request(self) -> Any:
        """Ask the guard, and then the hooks that somebody may have added."""
        self.guard()
        return super().preprocess_request() if self.before_request_funcs else None

    def process_response(self, response: Response) -> Response:
        """Run the hooks that somebody may have added, and complete the answer."""
        if self.after_request_funcs:
            response = super().process_response(response)
        return self.finish(response)

    def log_exception(self, exc_info: object) -> None:
        """Do nothing: the error handler logs, without the path, which may hold a key."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: no view, hook or handler here is a coroutine."""
        return func
