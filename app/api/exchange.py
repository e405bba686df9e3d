"""One request and its answer: what every view needs to know, and what every answer says.

Request id, dialect and key are settled before the view; the headers of the contract and the
access line are made in one place behind it, for successes and errors alike.
"""

import os
import re
import time
from dataclasses import dataclass, field
from enum import Enum

from flask import Response, current_app, g, request
from werkzeug.exceptions import MethodNotAllowed

from app.api.replies import empty_reply
from app.catalog.ids import random_base62
from app.catalog.keys import ApiKey
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS, Viewer
from app.dialects import Dialect
from app.logs import redact, write_access_line
from app.services import services

#: Every request header that may change the answer of a public route.
VARY = (
    "Accept-Encoding, Authorization, X-Api-Key, Api-Key, X-Goog-Api-Key, X-Goog-Api-Client, "
    "Anthropic-Version, Origin"
)
#: What a web page may read of an answer, beyond its body.
EXPOSED = "x-request-id, request-id, retry-after, etag"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,4096}", re.ASCII)

#: Endpoints that read no key and are never cached.
OPERATION_ENDPOINTS = frozenset({"operation.index", "operation.healthz", "operation.readyz"})
#: Endpoints with the public headers, for readers with a key or without.
PUBLIC_ENDPOINTS = frozenset({"models.list_models", "models.show_model", "models.preflight"})


class Area(Enum):
    """The three kinds of routes, which differ in keys, caching and cross-origin reading."""

    PUBLIC = "public"
    ADMIN = "admin"
    OPERATION = "operation"


@dataclass(slots=True)
class Exchange:
    """What is known of the request in hand."""

    #: Nanoseconds, of the performance counter.
    started: int
    request_id: str
    #: What the URL belongs to, also when the method is wrong; None if the URL is unknown.
    endpoint: str | None
    area: Area
    dialect: Dialect
    key: ApiKey | None = None
    #: Seconds since the store confirmed the image, if it cannot be read now.
    stale: int | None = None
    _snapshot: Snapshot | None = field(default=None, repr=False)

    @property
    def viewer(self) -> Viewer:
        """Return whom the caller's key says they are."""
        return ANONYMOUS if self.key is None else self.key.viewer

    @property
    def snapshot(self) -> Snapshot:
        """Return the one snapshot that this request is answered from."""
        if self._snapshot is None:
            catalog = services().catalog
            self._snapshot = catalog.current()
            if catalog.outage is not None:
                self.stale = int(catalog.age)
        return self._snapshot

    @property
    def actor(self) -> str:
        """Return what the log calls the caller."""
        return f"key:{self.key.kid}" if self.key is not None else "anonymous"


def exchange() -> Exchange:
    """Return the exchange of the request in hand."""
    current: Exchange = g.exchange
    return current


def begin() -> None:
    """Settle what the request is, before anything can be wrong with it."""
    started = time.perf_counter_ns()
    endpoint = _matched_endpoint()
    area = _area(endpoint)
    dialect = services().plain_dialect
    if area is Area.PUBLIC:
        asked = request.path, request.headers, request.args
        dialect = next(d for d in services().dialects if d.matches(*asked))
    g.exchange = Exchange(started, _request_id(), endpoint, area, dialect)


def finish(response: Response) -> Response:
    """Give an answer the headers of the contract and write its access line."""
    current = exchange()
    headers = response.headers
    headers["x-request-id"] = headers["request-id"] = current.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    if current.stale is not None:
        headers["x-roster-stale"] = str(current.stale)
    if current.area is Area.PUBLIC:
        shared = current.key is None and response.status_code in (200, 304)
        headers["Cache-Control"] = "public, no-cache" if shared else "private, no-cache"
        headers["Vary"] = VARY
        _allow_origin(response)
    else:
        headers["Cache-Control"] = "no-store"
    _log(current, response)
    return response


def preflight_response() -> Response:
    """Answer OPTIONS on a public route: what it allows, and to a web page, that it may ask."""
    response = empty_reply(204)
    response.headers["Allow"] = "GET, HEAD, OPTIONS"
    if _allowed_origin() is not None:
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
        response.headers["Access-Control-Max-Age"] = "600"  # 10 minutes
        names = request.headers.get("Access-Control-Request-Headers", "")
        if _HEADER_NAMES.fullmatch(names):  # SDKs send a dozen of their own
            response.headers["Access-Control-Allow-Headers"] = names
    return response


def _matched_endpoint() -> str | None:
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None, "a request always has one"  # noqa: S101
        endpoint, _ = adapter.match(method=next(iter(error.valid_methods)))
        return str(endpoint)
    return request.endpoint


def _area(endpoint: str | None) -> Area:
    if endpoint in OPERATION_ENDPOINTS:
        return Area.OPERATION
    if endpoint in PUBLIC_ENDPOINTS:
        return Area.PUBLIC
    # An unknown URL is a 404 for everyone; how it is worded, its path may say.
    if endpoint is None and not request.path.startswith("/admin"):
        return Area.PUBLIC
    return Area.ADMIN


def _request_id() -> str:
    given = request.headers.get("X-Request-ID", "")
    # One that looks like a key would put it into the log.
    if _REQUEST_ID.fullmatch(given) and redact(given) == given:
        return given
    return "req_" + random_base62(24)


def _allowed_origin() -> str | None:
    origins = services().settings.cors_origins
    origin = request.headers.get("Origin")
    if "*" in origins:
        return "*"
    return origin if origin in origins else None


def _allow_origin(response: Response) -> None:
    if (origin := _allowed_origin()) is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def _log(current: Exchange, response: Response) -> None:
    write_access_line(
        {
            "pid": os.getpid(),
            "request_id": current.request_id,
            "dialect": current.dialect.name,
            "method": request.method if len(request.method) <= 16 else "-",  # noqa: PLR2004
            "route": "-" if request.url_rule is None else request.url_rule.rule,
            "status": response.status_code,
            "bytes": 0 if request.method == "HEAD" else response.calculate_content_length() or 0,
            "us": (time.perf_counter_ns() - current.started) // 1000,
            "kid": None if current.key is None else current.key.kid,
        }
    )
