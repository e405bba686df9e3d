"""Authentication and authorisation of a request."""

import re
from collections.abc import Mapping

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
    REFUSALS,
    InsufficientScope,
    InvalidKey,
    InvalidValue,
    MissingKey,
    StoreUnavailable,
)
from app.catalog.keys import ADMIN, digest, mask, parse_kid
from app.dialects import cgi_name

#: A scheme with nothing behind it is what clients with an empty key setting send.
_BEARER = re.compile(r"bearer(?: +([!-+\--~]+))?", re.ASCII | re.IGNORECASE)
_OTHERS = [(name, cgi_name(name)) for name in KEY_HEADERS[1:]]
#: What is wrong with an Authorization header that is not `_BEARER`: the first form that matches.
_FAULTS = [
    (re.compile(form, re.IGNORECASE), fault)
    for form, fault in (
        (".*,", "has a comma, or was sent twice: send 'Authorization: Bearer KEY' once"),
        (r"bearer\s+bearer\s", "has 'Bearer' twice: send 'Authorization: Bearer KEY'"),
        (r"basic\s", "has the scheme Basic: send 'Authorization: Bearer KEY'"),
        (r"\S+$", "has no scheme: send 'Authorization: Bearer KEY'"),
        ("", "is not 'Bearer KEY'"),
    )
]


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
        routes = current.dialect.routes
        if public and routes is not None and current.route in routes.keyless:
            return
        raise MissingKey
    if not public and ADMIN not in current.key.scopes:
        raise InsufficientScope


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
    """Set the one active key that the request presents, if it presents any.

    Raise `InvalidKey` if none of those presented is active, or two that differ.
    """
    presented = _presented(current, public=public)
    if not presented:
        return
    try:
        rows = current.keys
    except StoreUnavailable:
        current.kid = next(filter(None, map(parse_kid, presented)), None)
        raise
    # A malformed or mistyped key has a digest that is not stored. A lookup is cheaper than to
    # check form and checksum.
    now = current.services.clock()
    active = {}
    for key in presented:
        row = rows.get(digest(key)) if key.isascii() else None
        if row is not None and row.is_accepted(now):
            active[key] = row
    if not active:
        raise _refusal(current, presented, now)
    if len(active) > 1:
        sources = " and ".join(map(presented.__getitem__, active))
        hint = f"There are good keys that differ in {sources}: send one of them."
        raise InvalidKey(mask(""), "ambiguous", hint=hint)
    [current.key] = active.values()
    current.kid = current.key.kid


def _presented(current: RequestContext, *, public: bool) -> dict[str, str]:
    """Return where each key in the request is.

    Raise `InvalidKey` for a malformed Authorization, unless there are other keys to check.
    """
    environ = current.environ
    presented = {}
    bearer = None
    authorization = environ.get("HTTP_AUTHORIZATION", "").strip(" \t")
    if authorization and (bearer := _BEARER.fullmatch(authorization)) and bearer[1]:
        presented[bearer[1]] = KEY_HEADERS[0]
    if public:
        for name, header in _OTHERS:
            if value := environ.get(header):
                presented.setdefault(value, name)
        parameter = current.dialect.key_parameter
        if parameter is not None and parameter in current.query:
            for value in filter(None, request.args.getlist(parameter)):
                presented.setdefault(value, f"?{parameter}=")
        for placeholder in current.services.settings.public_keys:
            presented.pop(placeholder, None)
    # Two headers arrive joined by a comma, which no key contains.
    if authorization and bearer is None and ("," in authorization or not presented):
        raise InvalidKey(mask(""), "malformed", hint=_faults(authorization, presented))
    return presented


def _refusal(
    current: RequestContext, presented: Mapping[str, str], now: float
) -> InvalidKey | StoreUnavailable:
    """Return why no key is accepted: of several, the one that is nearest to a good key."""
    refused = []
    for key in presented:
        row = current.snapshot.keys_by_digest.get(digest(key)) if key.isascii() else None
        kid = parse_kid(key) if row is None else row.kid
        unstored = "malformed" if kid is None else "unknown"
        reason = unstored if row is None else row.state(now)
        if reason == "unknown" and current.stale is not None:
            # The key may be newer than the snapshot, and a 401 would be final for the client.
            current.kid = kid
            return StoreUnavailable("A key was presented that the last snapshot does not have.")
        refused.append((reason, kid, key))
    reason, kid, key = max(refused, key=lambda each: REFUSALS.index(each[0]))
    authorization = current.environ.get("HTTP_AUTHORIZATION", "").strip(" \t")
    return InvalidKey(mask(key), reason, kid, hint=_faults(authorization, presented))


def _faults(authorization: str, presented: Mapping[str, str]) -> str:
    """Return a sentence for each credential of a wrong form, without anything of its value."""
    sentences = []
    if authorization and not _BEARER.fullmatch(authorization):
        fault = next(fault for form, fault in _FAULTS if form.match(authorization))
        sentences.append(f"Authorization {fault}.")
    for key, source in presented.items():
        if "," in key:
            sentences.append(f"{source} has a comma, or was sent twice: send one key.")
        elif key[:7].lower() == "bearer ":
            sentences.append(f"{source} has 'Bearer' before the key: send the key alone.")
        elif key[0] in "\"'":
            sentences.append(f"{source} has quotes around the key: send the key alone.")
    return " ".join(sentences)
