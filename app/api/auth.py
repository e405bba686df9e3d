"""Who may: reading the key of a request, and the one guard in front of every view."""

import re
from collections.abc import Iterator

from flask import request

from app.api.exchange import Area, exchange
from app.catalog.errors import InsufficientScope, InvalidKey, MissingKey
from app.catalog.keys import ADMIN, ApiKey, digest, mask, parse_kid
from app.services import services

_BEARER = re.compile(r"bearer +([!-+\--~]+)", re.ASCII | re.IGNORECASE)
_KEY_HEADERS = ("x-api-key", "x-goog-api-key", "api-key")


def guard() -> None:
    """Let a request through to its view, or raise what is wrong with its key.

    Anything that is not declared public or operational needs an admin key: a route that nobody
    thought about here is closed. What is presented is checked first, so that a bad key is a 401
    even where the URL is wrong; a missing key is held against nobody whose URL is.
    """
    current = exchange()
    auth = services().settings.auth
    public = current.area is Area.PUBLIC
    if (
        current.area is Area.OPERATION
        or request.endpoint == "models.preflight"
        or (public and auth == "off")
    ):
        return
    presented = set(_presented(public=public))
    if presented:
        current.key = _check(presented)
    if request.routing_exception is not None or (public and auth == "optional"):
        return
    if current.key is None:
        raise MissingKey
    if not public and ADMIN not in current.key.scopes:
        raise InsufficientScope


def _presented(*, public: bool) -> Iterator[str]:
    """Yield every key in the request; a header that holds none, or several, is an `InvalidKey`."""
    authorization = request.headers.get("Authorization", "").strip(" \t")
    if authorization:
        # Two headers arrive joined by a comma, which no key contains.
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise InvalidKey(mask(""))
        yield bearer[1]
    if public:
        yield from filter(None, map(request.headers.get, _KEY_HEADERS))
        parameter = exchange().dialect.key_parameter
        if parameter is not None and (value := request.args.get(parameter)):
            yield value


def _check(presented: set[str]) -> ApiKey:
    """Return the row of the one key presented, or raise `InvalidKey`."""
    secret, *others = sorted(presented)
    if others or parse_kid(secret) is None:
        raise InvalidKey(mask(secret))
    key = exchange().snapshot.keys_by_digest.get(digest(secret))
    if key is None or key.state(services().clock()) != "active":
        raise InvalidKey(mask(secret))
    return key
