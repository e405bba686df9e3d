"""Conditional requests (RFC 9110, section 13): entity tags and what a writer requires."""

import re

from flask import request

from app.catalog.precondition import Precondition

_TAG = re.compile(r'(W/)?"([^"]*)"')
# A list may have empty elements (RFC 9110, section 5.6.1).
_TAGS = re.compile(rf"[\s,]*{_TAG.pattern}(?:\s*,[\s,]*{_TAG.pattern})*[\s,]*")


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Tell whether If-None-Match names `etag`, so that a 304 will do; weak tags and * count."""
    if if_none_match is None or if_none_match == etag:
        return if_none_match is not None
    return if_none_match.strip() == "*" or etag.strip('"') in _tags(if_none_match)


def read_precondition() -> Precondition:
    """Return what If-Match and If-None-Match require of the entry.

    A tag of ours is a revision; a malformed header names none, and so is met by no entry.
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
