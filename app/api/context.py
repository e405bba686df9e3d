"""The context of a request: what is known of it, and what completes its answer.

Request id, dialect and area are settled before anything can be wrong with the request. The headers
of the contract and the access line are made in one function, for successes and errors alike.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import getrandbits
from typing import Any, cast

import flask
from flask import Response, current_app
from werkzeug.exceptions import MethodNotAllowed

from app.api import cors
from app.api.http import LazyResponse
from app.catalog.errors import InvalidKey, MissingKey
from app.catalog.keys import KEY_BEGINNING, ApiKey
from app.catalog.ports import Actor
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS, Viewer
from app.dialects import Dialect, Dialects
from app.logs import write_access_line
from app.services import Services

#: Headers that may have a key. Routes that are not public read the first alone.
KEY_HEADERS = ("Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

_FORWARDED = "HTTP_X_FORWARDED_FOR"
#: The address of a peer at a Unix socket; gunicorn gives the name of one that has bound a name.
_UNIX_SOCKET = ""
#: The address of a peer where the server gives none.
_UNKNOWN = "unknown"
#: The longest address in the header, in characters: one of IPv6 has 45, with spaces around it.
_LONGEST = 64

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


#: The blueprints whose routes need no admin key. Every other route needs one: also those of other
#: blueprints, and those without a blueprint.
OPEN_BLUEPRINTS = {"models": Area.PUBLIC, "operation": Area.OPERATION}


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
    #: The rule of the URL, None if the URL is unknown or has no such method.
    route: str | None
    key: ApiKey | None = None
    #: The id of the key, also of one that was refused, if that is well-formed.
    kid: str | None = None
    #: Why the key was refused: one of ``app.catalog.errors.REFUSALS``.
    refused: str | None = None
    #: Seconds since the store confirmed the snapshot, if it cannot be read now.
    stale: int | None = None
    #: The answer, when `finish` has completed it.
    response: Response | None = field(default=None, repr=False)
    _snapshot: Snapshot | None = field(default=None, repr=False)

    def refuse_key(self, error: InvalidKey | MissingKey) -> None:
        """Store why the key is not accepted, for the access line and the metrics."""
        self.refused, self.kid = error.reason, error.kid
        if self.services.metrics is not None:
            self.services.metrics.tally.count_refusal(error.reason)

    @property
    def viewer(self) -> Viewer:
        """Return the viewer that the key belongs to."""
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
    def keys(self) -> Mapping[str, ApiKey]:
        """Return all keys by digest; a change does not wait for entries that were just written."""
        if self.area is not Area.ADMIN or self.environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self.snapshot.keys_by_digest
        catalog = self.services.catalog
        snapshot, is_stale = catalog.current_or_stale(keys_only=True)
        if is_stale:
            self.stale = int(catalog.age)
        return snapshot.keys_by_digest

    @property
    def actor(self) -> Actor:
        """Return the holder of the admin key, for the log of changes."""
        assert self.key is not None, "no change is made without a key"  # noqa: S101
        return Actor(f"key:{self.key.kid}", self.request_id, self.key.kid)


class Request(flask.Request):
    """Flask's request, with its context."""

    #: Set when Flask asks the application for a URL adapter, the first step of each request.
    services: Services

    @cached_property
    def context(self) -> RequestContext:
        """Return what is known of this request; read when it is first asked for."""
        started = time.perf_counter_ns()
        environ = self.environ
        services = self.services
        rule = self.url_rule
        area = _area(self) if rule is None else _area_of(rule.endpoint)
        text = environ.get("QUERY_STRING", "")
        query = _NO_QUERY
        if text:
            query = self.args if text.count("&") < MAX_PARAMETERS else TOO_MANY
        request_id = _request_id(environ)
        dialect = services.dialects.default
        if area is Area.PUBLIC:
            dialect = services.dialects.choose(self.path, environ, query)
        route = None if rule is None else rule.rule
        return RequestContext(started, services, environ, query, request_id, area, dialect, route)


#: The request in hand.
request = cast("Request", flask.request)


def finish(response: Response) -> Response:
    """Give an answer the headers of the contract, write its access line and count it."""
    current = request.context
    # Flask has not built a lazy response until somebody reads or changes a part of it.
    lazy = response if isinstance(response, LazyResponse) and not vars(response) else None
    status = response.status_code if lazy is None else lazy.code
    headers = [
        ("X-Content-Type-Options", "nosniff"),
        ("x-request-id", current.request_id),
        ("request-id", current.request_id),
    ]
    if current.area is Area.PUBLIC:
        is_for_all = (
            current.key is None and status in (200, 304) and isinstance(response, LazyResponse)
        )
        headers.append(
            ("Cache-Control", "public, no-cache" if is_for_all else "private, no-cache")
        )
        headers.append(("Vary", _vary(current.services.dialects)))
        if origins := current.services.settings.cors_origins:
            headers += cors.headers(origins, current.environ)
    else:
        headers.append(("Cache-Control", "no-store"))
    if current.stale is not None:
        headers.append(("x-roster-stale", str(current.stale)))
    if lazy is not None:
        length = len(lazy.content)
        lazy.fields += headers
    else:
        # The second is of an answer that is read from a file while it is sent.
        length = response.calculate_content_length() or response.content_length or 0
        vary = response.headers.getlist("Vary")
        is_secret = response.cache_control.no_store
        for name, value in headers:
            response.headers[name] = value
        if is_secret:  # an extension's, which must stay
            response.headers["Cache-Control"] = "no-store"
        if vary:  # likewise
            vary = [*response.headers.getlist("Vary"), *vary]
            response.headers["Vary"] = ", ".join(dict.fromkeys(vary))
    current.response = response
    method = current.environ["REQUEST_METHOD"]
    dialect = current.dialect.name
    client = client_address(current.environ, current.services.settings.trusted_proxies)
    us = (time.perf_counter_ns() - current.started) // 1000
    metrics = current.services.metrics
    if metrics is not None:
        metrics.tally.count_request(current.route or "-", dialect, status, us)
    write_access_line(
        pid=os.getpid(),
        request_id=current.request_id,
        client=client,
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


@lru_cache(maxsize=8)  # of each application in the process
def _vary(dialects: Dialects) -> str:
    """Return every request header that may change the answer of a public route."""
    return ", ".join(dict.fromkeys(("Accept-Encoding", *KEY_HEADERS, *dialects.headers, "Origin")))


def _area_of(endpoint: str) -> Area:
    return OPEN_BLUEPRINTS.get(endpoint.rpartition(".")[0], Area.ADMIN)


def _area(request: Request) -> Area:
    """Return the area of a URL that matched no rule, or none with this method."""
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None, "a request always has one"  # noqa: S101
        endpoint, _ = adapter.match(method=next(iter(error.valid_methods)))
        return _area_of(endpoint)
    # An unknown URL is a 404 for everyone; its path decides the dialect of the message.
    is_admin = f"{request.path}/".startswith("/admin/")
    return Area.ADMIN if is_admin else Area.PUBLIC


def _request_id(environ: Mapping[str, Any]) -> str:
    given = environ.get("HTTP_X_REQUEST_ID")
    # One that may be a key, or a part of a key, must not get into the log.
    if given and _REQUEST_ID.fullmatch(given) and not KEY_BEGINNING.search(given):
        return str(given)
    # It is no secret: the system's random numbers would cost a switch to another thread.
    return f"req_{getrandbits(96):024x}"


def client_address(environ: Mapping[str, Any], proxies: tuple[str, ...]) -> str | None:
    """Return the address of the client, None if it has none.

    The last entry of ``X-Forwarded-For`` is believed where the peer is one of our `proxies`, or at
    a Unix socket. Earlier entries are written by the caller.
    """
    forwarded = environ.get(_FORWARDED)
    if forwarded is not None:
        forwarded = forwarded[-_LONGEST:]
    return _client(environ.get("REMOTE_ADDR", _UNKNOWN), forwarded, proxies)


def is_local(environ: Mapping[str, Any]) -> bool:
    """Return whether the client is on this host, and connected without a proxy."""
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
    """Return the address in `text`, None if there is none."""
    try:
        address = ip_address(text.partition("%")[0])  # behind it is the zone: any characters
    except ValueError:
        return None
    # A socket for both versions has IPv4 addresses in IPv6's form.
    return getattr(address, "ipv4_mapped", None) or address
