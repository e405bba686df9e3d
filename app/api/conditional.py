"""Conditional requests (RFC 9110, section 13): entity tags and what a writer requires."""

import re

from flask import request

from app.catalog.precondition import Precondition

_TAG = r'(?:W/)?"[^"]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")
_ANY = re.compile(r'(?:W/)?"([^"]*)"')
_STRONG = re.compile(r'(?<!W/)"([^"]*)"')


def is_known(etag: str) -> bool:
    """Tell whether If-None-Match names `etag`, so that a 304 will do; weak tags and * count."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    return header.strip() == "*" or etag.strip('"') in _tags(_ANY, header)


def read_precondition() -> Precondition:
    """Return what If-Match and If-None-Match require of the entry.

    A tag of ours is a revision; a malformed header names none, and so is met by no entry.
    """
    match = request.headers.get("If-Match")
    none_match = request.headers.get("If-None-Match", "")
    if_match_any = match is not None and match.strip() == "*"
    return Precondition(
        if_match=None if match is None or if_match_any else _tags(_STRONG, match),
        if_match_any=if_match_any,
        if_none_match=_tags(_ANY, none_match),
        if_none_match_any=none_match.strip() == "*",
    )


def _tags(form: re.Pattern[str], header: str) -> frozenset[str]:
    return frozenset(form.findall(header) if _TAGS.fullmatch(header) else ())
