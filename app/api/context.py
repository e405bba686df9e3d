"""One request and its answer: what every view needs to know, and what every answer says.

Request id, dialect and key are settled before the view; the headers of the contract and the
access line are made in one place behind it, for successes and errors alike.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import getrandbits
from typing import Any

from flask import Request, Response, current_app, request
from flask.globals import request_ctx
from werkzeug.exceptions import MethodNotAllowed

from app.api import cors
from app.api.application import OWN_HEADERS, SharedResponse
from app.catalog.errors import InvalidKey, MissingKey
from app.catalog.keys import KEY_BEGINNING, ApiKey
from app.catalog.ports import Actor
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS, Viewer
from app.dialects import Dialect
from app.logs import write_access_line
from app.services import Services, services_of

#: Headers that may change the answer of a public route, beside those that select a dialect.
_VARY = ("Accept-Encoding", "Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

_FORWARDED = "HTTP_X_FORWARDED_FOR"
#: The address of a peer at a Unix socket; gunicorn gives the name of one that has bound a name.
_UNIX_SOCKET = ""
#: That of a peer of which the server tells nothing.
_UNKNOWN = "unknown"
#: How much of the header may be an address: with spaces around it, one of IPv6 has 45 characters.
_LONGEST = 64

#: Where the WSGI environment holds the exchange.
_CONTEXT = "roster.context"
_NO_QUERY: Mapping[str, str] = {}
#: The most parameters of a query: of 4,000, which fit into a URL, 6 ms are spent on parsing them.
MAX_PARAMETERS = 64
#: The parameters of a query that has more, which are not read.
TOO_MANY: Mapping[str, str] = {}


class Area(Enum):
    """The three kinds of routes, which differ in keys, caching and cross-origin reading."""

    #: For readers, with a key or without.
    PUBLIC = "public"
    #: For holders of an admin key.
    ADMIN = "admin"
    #: For operators. They need no key.
    OPERATION = "operation"


#: Every endpoint that does not need an admin key. What is not named here does.
OPEN_ENDPOINTS = {
    "models.list_models": Area.PUBLIC,
    "models.show_model": Area.PUBLIC,
    "models.look_up_model": Area.PUBLIC,
    "models.show_constant": Area.PUBLIC,
    "models.preflight": Area.PUBLIC,
    "operation.index": Area.OPERATION,
    "operation.healthz": Area.OPERATION,
    "operation.readyz": Area.OPERATION,
    "operation.metrics": Area.OPERATION,
}


@dataclass(slots=True)
class RequestContext:
    """What is known of the request in hand."""

    #: Nanoseconds, of the performance counter.
    started: int
    services: Services
    environ: dict[str, Any] = field(repr=False)
    #: The parameters of the URL.
    query: Mapping[str, str]
    request_id: str
    area: Area
    dialect: Dialect
    #: The rule of the URL, None if it is unknown.
    route: str | None
    key: ApiKey | None = None
    #: The id of the key, also of one that was refused, if that is well-formed.
    kid: str | None = None
    #: Why the key was refused: one of ``app.catalog.errors.REFUSALS``.
    refused: str | None = None
    #: Seconds since the store confirmed the image, if it cannot be read now.
    stale: int | None = None
    _snapshot: Snapshot | None = field(default=None, repr=False)

    def refuse_key(self, error: InvalidKey | MissingKey) -> None:
        """Note why the key is not accepted, for the access line and the metrics."""
        self.refused, self.kid = error.reason, error.kid
        if self.services.metrics is not None:
            self.services.metrics.tally.count_refusal(error.reason)

    @property
    def viewer(self) -> Viewer:
        """Return whom the caller's key says they are."""
        return ANONYMOUS if self.key is None else self.key.viewer

    @property
    def snapshot(self) -> Snapshot:
        """Return the one snapshot that this request is answered from."""
        if self._snapshot is None:
            catalog = self.services.catalog
            self._snapshot, is_stale = catalog.current_or_stale()
            if is_stale:
                self.stale = int(catalog.age)
        return self._snapshot

    @property
    def vary(self) -> str:
        """Return every request header that may change the answer of a public route."""
        selecting = self.services.dialects.headers
        return ", ".join(dict.fromkeys((*_VARY, *selecting, "Origin")))

    @property
    def actor(self) -> Actor:
        """Return the caller, whom the guard let change something, for the log of changes."""
        assert self.key is not None, "no change is made without a key"  # noqa: S101
        return Actor(f"key:{self.key.kid}", self.request_id, self.key.kid)


def request_context() -> RequestContext:
    """Return the exchange of the request in hand; an error before the guard begins it."""
    return request.environ.get(_CONTEXT) or begin()


def begin() -> RequestContext:
    """Settle what the request is, before anything can be wrong with it."""
    started = time.perf_counter_ns()
    # Each look at a proxy such as flask.request costs a microsecond: one is enough.
    context = request_ctx._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    request: Request = context.request
    environ = request.environ
    services = services_of(context.app)
    rule = request.url_rule
    area = _area(request) if rule is None else OPEN_ENDPOINTS.get(rule.endpoint, Area.ADMIN)
    text = environ.get("QUERY_STRING", "")
    query = _NO_QUERY
    if text:
        query = request.args if text.count("&") < MAX_PARAMETERS else TOO_MANY
    dialect = services.dialects.default
    if area is Area.PUBLIC:
        dialect = services.dialects.choose(request.path, environ, query)
    current = environ[_CONTEXT] = RequestContext(
        started,
        services,
        environ,
        query,
        _request_id(environ),
        area,
        dialect,
        None if rule is None else rule.rule,
    )
    return current


def finish(response: Response) -> Response:
    """Give an answer the headers of the contract, write its access line and count it."""
    current = request_context()
    own = [("x-request-id", current.request_id), ("request-id", current.request_id)]
    if current.stale is not None:
        own.append(("x-roster-stale", str(current.stale)))
    origins = current.services.settings.cors_origins
    if origins and current.area is Area.PUBLIC:
        own += cors.headers(origins, current.environ)
    if isinstance(response, SharedResponse):
        length = response.length
        current.environ[OWN_HEADERS] = own
    else:
        length = response.calculate_content_length() or 0
        response.headers.extend(own)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        if current.area is Area.PUBLIC:
            response.headers["Cache-Control"] = "private, no-cache"
            response.headers["Vary"] = current.vary
    method = current.environ["REQUEST_METHOD"]
    dialect = current.dialect.name
    status = response.status_code
    us = (time.perf_counter_ns() - current.started) // 1000
    metrics = current.services.metrics
    if metrics is not None:
        metrics.tally.count_request(current.route or "-", dialect, status, us)
    write_access_line(
        pid=os.getpid(),
        request_id=current.request_id,
        client=client_address(current.environ, current.services.settings.trusted_proxies),
        dialect=dialect,
        method=method,
        route=current.route,
        status=status,
        length=0 if method == "HEAD" else length,
        us=us,
        kid=current.kid,
        refused=current.refused,
    )
    return response


def _area(request: Request) -> Area:
    """Return the area of a URL that matched no rule, or none with this method."""
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None, "a request always has one"  # noqa: S101
        endpoint, _ = adapter.match(method=next(iter(error.valid_methods)))
        return OPEN_ENDPOINTS.get(endpoint, Area.ADMIN)
    # An unknown URL is a 404 for everyone; how it is worded, its path may say.
    is_admin = f"{request.path}/".startswith("/admin/")
    return Area.ADMIN if is_admin else Area.PUBLIC


def _request_id(environ: Mapping[str, Any]) -> str:
    given = environ.get("HTTP_X_REQUEST_ID")
    # One that looks like a key, be it taken apart, would put it into the log.
    if given and _REQUEST_ID.fullmatch(given) and not KEY_BEGINNING.search(given):
        return str(given)
    # 24 characters of base 62. It is no secret, and the system's randomness would hand the
    # interpreter to another thread.
    return f"req_{getrandbits(96):024x}"


def client_address(environ: Mapping[str, Any], proxies: tuple[str, ...]) -> str | None:
    """Return the address of the client, None if it has none or a proxy named none.

    It has digits, letters, dots and colons alone.
    """
    forwarded = environ.get(_FORWARDED)
    if forwarded is not None:
        forwarded = forwarded[-_LONGEST:]
    return _client(environ.get("REMOTE_ADDR", _UNKNOWN), forwarded, proxies)


def is_local(environ: Mapping[str, Any]) -> bool:
    """Tell whether the client is on this host, and asks without a proxy."""
    if _FORWARDED in environ:
        return False
    peer = environ.get("REMOTE_ADDR", _UNKNOWN)
    address = _parse(peer)
    return peer == _UNIX_SOCKET or (address is not None and address.is_loopback)


@lru_cache(maxsize=4096)  # to parse two addresses and two networks costs 10 µs
def _client(peer: str, forwarded: str | None, proxies: tuple[str, ...]) -> str | None:
    address = _parse(peer)
    if forwarded is not None and (
        peer == _UNIX_SOCKET
        or "*" in proxies
        or (address is not None and any(address in ip_network(proxy) for proxy in proxies))
    ):
        address = _parse(forwarded.rpartition(",")[2].strip(" \t"))
    return None if address is None else str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `text`, None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])  # behind it is the zone: any characters
    except ValueError:
        return None
    # A socket for both versions has IPv4 addresses in IPv6's form.
    return getattr(address, "ipv4_mapped", None) or address
