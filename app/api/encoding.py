"""Which encodings of a body a client takes (RFC 9110, section 12.5.3)."""

from functools import lru_cache

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

#: No client sends a longer header, and 8 KiB take 2 ms to parse.
MAX_LENGTH = 256  # characters


@lru_cache(maxsize=256)  # there are few clients and many requests
def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tell whether an Accept-Encoding header allows gzip; without one, nothing is encoded."""
    if not accept_encoding or len(accept_encoding) > MAX_LENGTH:
        return False
    return bool(parse_accept_header(accept_encoding, Accept).quality("gzip") > 0)
