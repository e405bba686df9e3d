"""What HTTP asks of every answer: encodings, conditional requests, bodies in JSON."""

import re
from functools import lru_cache

from flask import Response, request
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from app.catalog.precondition import Precondition
from app.strict_json import dump

#: The longest Accept-Encoding header that is read: 8 KiB take 2 ms to parse.
MAX_LENGTH = 256  # characters

_TAG = re.compile(r'(W/)?"([^"]*)"')
# A list may have empty elements (RFC 9110, section 5.6.1).
_TAGS = re.compile(rf"[\s,]*{_TAG.pattern}(?:\s*,[\s,]*{_TAG.pattern})*[\s,]*")


@lru_cache(maxsize=256)  # there are few clients and many requests
def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether an Accept-Encoding header (RFC 9110, section 12.5.3) allows gzip."""
    if not accept_encoding or len(accept_encoding) > MAX_LENGTH:
        return False
    return bool(parse_accept_header(accept_encoding, Accept).quality("gzip") > 0)


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Return whether an If-None-Match header names `etag`; weak tags and ``*`` count."""
    if if_none_match is None or if_none_match == etag:
        return if_none_match is not None
    return if_none_match.strip() == "*" or etag.strip('"') in _tags(if_none_match)


def read_precondition() -> Precondition:
    """Return what If-Match and If-None-Match of the request require of the entry.

    A tag is the revision of an entry. A malformed header has no tags, so no entry matches it.
    """
    match = request.headers.get("If-Match")
    none_match = request.headers.get("If-None-Match", "")
    if_match_any = match is not None and match.strip() == "*"
    return Precondition(
        if_match=None if match is None or if_match_any else _tags(match, strong=True),
        if_match_any=if_match_any,
        if_none_match=_tags(none_match),
        if_none_match_any=none_match.strip() == "*",
    )


def _tags(header: str, *, strong: bool = False) -> frozenset[str]:
    if not _TAGS.fullmatch(header):
        return frozenset()
    return frozenset(tag for weak, tag in _TAG.findall(header) if not (weak and strong))


def json_reply(value: object, status: int = 200) -> Response:
    """Return `value` as compact JSON, its keys in their own order."""
    return Response(dump(value), status, mimetype="application/json")


def empty_reply(status: int) -> Response:
    """Return a response without a body, and so without a Content-Type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response
