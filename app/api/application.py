"""The Flask application: where a request enters, and the functions around every view.

A list takes 32 µs in one process, about as long as a bare Flask view of the same bytes. Two things
make up for what is done beside that, each in a way that Flask documents:

- `Application.create_url_adapter` remembers the match of static URLs, which saves 13 µs;
- the views return an `app.api.http.LazyResponse` in most cases, which saves 26 µs.

``tests/test_versions.py`` lists what of this may change with a new version of Flask.
"""

from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import NotFound
from werkzeug.routing import RequestRedirect, Rule

from app.api.auth import guard
from app.api.context import Request, finish, request
from app.services import EXTENSION


class _UrlAdapter:
    """A URL adapter that remembers static URLs, and matches by method and path alone.

    Werkzeug's own also reads the host and ``Upgrade: websocket``, and an odd one of either is an
    error there. Here no route depends on them. What needs the host, such as ``url_for``, gets
    Werkzeug's adapter of its own request.
    """

    def __init__(self, app: "Application", request: Request) -> None:
        self._app = app
        self._request = request
        self._method_and_path = (request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"])

    def match(self, *, method: str | None = None, return_rule: bool = False) -> Any:
        """Match as `MapAdapter.match` does; the path of ``http://host`` is ``/``."""
        is_usual = method is None and return_rule
        if is_usual and (known := self._app.known_urls.get(self._method_and_path)) is not None:
            return known, {}  # the values are the request's own: hooks may change them
        own_method, path = self._method_and_path
        if path.startswith("//"):  # Werkzeug would take it for one slash
            raise NotFound
        try:
            found = self._app.urls.match(self._request.path, method or own_method, return_rule)
        except RequestRedirect:  # of an extension's route: to the host that was asked
            return self.__getattr__("match")(method=method, return_rule=return_rule)
        if is_usual and not found[0].arguments:  # bounded: there are so many rules and methods
            self._app.known_urls[self._method_and_path] = found[0]
        return found

    def allowed_methods(self) -> Any:
        """Return the methods that the path has."""
        return self._app.urls.allowed_methods(self._request.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(Flask.create_url_adapter(self._app, self._request), name)


class Application(Flask):
    """Flask with our request, our URL adapter, and our functions around every view."""

    request_class = Request

    @property
    def response_class(self) -> type[Response]:  # type: ignore[override]
        """Return Flask's class; to set another one raises, as `LazyResponse` is none of it."""
        return Response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Werkzeug's URL adapter for any host.
        self.urls: Any = self.url_map.bind("localhost")
        #: The rules of static URLs, by method and path.
        self.known_urls: dict[tuple[str, str], Rule] = {}
        # Before all others, so that those of an extension run between them: Flask calls
        # after_request functions in the reverse order of their registration.
        self.before_request(self._authorize)
        self.after_request(finish)

    def create_url_adapter(self, request: Any) -> Any:
        """Return an adapter; Werkzeug's is made when it is needed."""
        if request is None:
            return super().create_url_adapter(None)
        request.services = self.extensions[EXTENSION]
        return _UrlAdapter(self, request)

    def handle_exception(self, e: Exception) -> Response:
        """Complete the answer where an after_request function fails with it, too.

        Flask calls these functions for the answer to an unexpected error as well. When one of
        them fails then, Flask sends the answer without calling those behind it: `finish` is last.
        """
        response = super().handle_exception(e)
        return response if request.context.response is response else finish(response)

    def log_exception(self, exc_info: object) -> None:
        """Do nothing: the error handler logs, without the path, which may hold a key."""

    def _authorize(self) -> None:
        guard(request.context)
