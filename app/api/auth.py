"""Authentication and authorisation of a request."""

import re

from app.api.context import (
    KEY_HEADERS,
    MAX_PARAMETERS,
    TOO_MANY,
    Area,
    RequestContext,
    is_local,
    request,
)
from app.catalog.errors import (
    InsufficientScope,
    InvalidKey,
    InvalidValue,
    MissingKey,
    StoreUnavailable,
)
from app.catalog.keys import ADMIN, ApiKey, digest, mask, parse_kid
from app.dialects import cgi_name

_BEARER = re.compile(r"bearer +([!-+\--~]+)", re.ASCII | re.IGNORECASE)
_CGI_NAMES = [*map(cgi_name, KEY_HEADERS[1:])]


def guard(current: RequestContext) -> None:
    """Check the key of a request; raise where the request may not reach its view.

    A bad key is refused before a wrong URL is, and a wrong URL before a missing key. A query that
    is too long comes before all this: a key may be in it.
    """
    if current.query is TOO_MANY:
        raise InvalidValue("query", f"A query has at most {MAX_PARAMETERS} parameters.")
    auth = current.services.settings.auth
    if auth != "off" and current.dialect.auth is not None:
        auth = current.dialect.auth
    public = current.area is Area.PUBLIC
    is_unknown = current.route is None
    if (
        current.area is Area.OPERATION
        or (public and auth == "off")
        or (public and not is_unknown and current.environ["REQUEST_METHOD"] == "OPTIONS")
    ):
        return
    _read_key(current, public=public)
    if (public and auth == "optional") or is_unknown:
        return
    if current.key is None:
        if public and _is_constant(current):
            return
        raise MissingKey
    if not public and ADMIN not in current.key.scopes:
        raise InsufficientScope


def _is_constant(current: RequestContext) -> bool:
    routes = current.dialect.routes
    return routes is not None and current.route in routes.constants


def may_see_counts() -> bool:
    """Return whether the caller of an operation route has an admin key, or is on this host.

    A refused key is logged and counted; the answer stays 200.
    """
    current = request.context
    try:
        _read_key(current, public=False)
    except InvalidKey as error:
        current.refuse_key(error)
    except StoreUnavailable:
        pass  # the key may be newer than the last snapshot
    has_key = current.key is not None and ADMIN in current.key.scopes
    return has_key or is_local(current.environ)


def _read_key(current: RequestContext, *, public: bool) -> None:
    """Set the key in the context of its request; raise `InvalidKey` for a bad one."""
    presented = _presented(current, public=public)
    if presented:
        try:
            current.key = _check(current, presented)
        except StoreUnavailable:
            current.kid = parse_kid(min(presented))
            raise
        current.kid = current.key.kid


def _presented(current: RequestContext, *, public: bool) -> set[str]:
    """Return every key in the request; raise `InvalidKey` for a malformed Authorization."""
    environ = current.environ
    presented = set()
    if authorization := environ.get("HTTP_AUTHORIZATION", "").strip(" \t"):
        # Two headers arrive joined by a comma, which no key contains.
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise InvalidKey(mask(""), "malformed")
        presented.add(bearer[1])
    if public:
        for header in _CGI_NAMES:
            if value := environ.get(header):
                presented.add(value)
        parameter = current.dialect.key_parameter
        if parameter is not None and (value := current.query.get(parameter)):
            presented.add(value)
    return presented


def _check(current: RequestContext, presented: set[str]) -> ApiKey:
    """Return the row of the one key presented, or raise `InvalidKey`."""
    secret = min(presented)
    # A malformed or mistyped key has a digest that is not stored. A lookup is cheaper than to
    # check form and checksum.
    if len(presented) > 1:
        raise InvalidKey(mask(secret), "ambiguous")
    if not secret.isascii():
        raise InvalidKey(mask(secret), "malformed")
    key = current.snapshot.keys_by_digest.get(digest(secret))
    if key is None:
        kid = parse_kid(secret)
        if kid is None:
            raise InvalidKey(mask(secret), "malformed")
        if current.stale is not None:
            # The key may be newer than the snapshot, and a 401 would be final for the client.
            raise StoreUnavailable("A key was presented that the last snapshot does not have.")
        raise InvalidKey(mask(secret), "unknown", kid)
    if (state := key.state(current.services.clock())) != "active":
        raise InvalidKey(mask(secret), state, key.kid)
    return key
