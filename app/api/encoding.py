"""Which encodings of a body a client takes (RFC 9110, section 12.5.3)."""

from functools import lru_cache

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header


@lru_cache(maxsize=256)  # there are few clients and many requests
def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether an Accept-Encoding header allows gzip; without one, nothing is encoded."""
    if not accept_encoding:
        return False
    return bool(parse_accept_header(accept_encoding, Accept).quality("gzip") > 0)
