"""API keys: their format, their digest, and the row of a key.

A key is ``ro_<kid>_<secret><crc>``: kid 8, secret 32 and crc 6 characters of base62. The kid
is public: it names the key in logs, lists and the audit. The crc is the CRC-32 of everything
before it, so that a mistyped key is refused without a lookup and scanners find leaked ones.
Only the SHA-256 of the whole key is stored, from which the key cannot be computed.
"""

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from app.catalog.model import BASE62, random_base62
from app.catalog.visibility import Viewer

READ = "read"
ADMIN = "admin"
SCOPES = (READ, ADMIN)
#: The states of a key. In its grace is one that was rotated and is still accepted.
STATES = ("active", "grace", "expired", "revoked")

#: The characters of a kid.
KID_LENGTH = 8
#: The beginning of a key, with its id, in any case; no message repeats what follows.
KEY_BEGINNING = re.compile(r"ro_([0-9A-Za-z]{8})_", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"ro_([0-9A-Za-z]{8})_[0-9A-Za-z]{32}([0-9A-Za-z]{6})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The row of a key, without the key itself. Times are Unix seconds."""

    kid: str
    #: SHA-256 of the whole key, hexadecimal.
    digest: str = field(repr=False)
    name: str
    scopes: tuple[str, ...] = (READ,)
    organization: str | None = None
    groups: tuple[str, ...] = ()
    created: int
    #: The first second at which the key is refused, None for no expiry.
    expires_at: int | None = None
    #: Of a rotated key: the end of its grace.
    retires_at: int | None = None
    revoked_at: int | None = None
    #: See `app.catalog.model.Model`.
    unknown_members: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def viewer(self) -> Viewer:
        """Return the viewer that a request with this key comes from."""
        return Viewer(self.organization, frozenset(self.groups))

    @property
    def ends_at(self) -> int | None:
        """Return the first second at which the key is refused, None if it has no end."""
        if self.expires_at is None or self.retires_at is None:
            return self.retires_at if self.expires_at is None else self.expires_at
        return min(self.expires_at, self.retires_at)

    def is_accepted(self, now: float) -> bool:
        """Return whether requests with the key are accepted: in its grace, they are."""
        ends_at = self.ends_at
        return self.revoked_at is None and (ends_at is None or now < ends_at)

    def state(self, now: float) -> str:
        """Return which of `STATES` the key is in."""
        if self.is_accepted(now):
            return "active" if self.retires_at is None else "grace"
        return "expired" if self.revoked_at is None else "revoked"


def end_after(seconds: int, now: float) -> int:
    """Return the end of a key to be accepted for at least `seconds`, or no longer if 0."""
    return ceil(now) + seconds if seconds else int(now)


def mint() -> str:
    """Return a new key. It is stored nowhere: the caller must show it."""
    body = f"ro_{random_base62(8)}_{random_base62(32)}"
    return body + _checksum(body)


def parse_kid(key: str) -> str | None:
    """Return the kid of a well-formed `key`, None if its format or checksum is wrong."""
    match = _KEY.fullmatch(key)
    if match is None or _checksum(key[:-6]) != match[2]:
        return None
    return match[1]


def digest(key: str) -> str:
    """Return what the store has of `key`: its SHA-256, 64 hexadecimal characters."""
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def describe(key: str, **facts: Any) -> ApiKey:
    """Return the row for a well-formed `key`; `facts` are the other fields of `ApiKey`."""
    return ApiKey(kid=key[3:11], digest=digest(key), **facts)


def mask(presented: str) -> str:
    """Return the part of a presented key that a message may repeat: at most four characters."""
    # A short string may be a password typed into the wrong field: nothing of it is shown.
    shown = presented[:4] if len(presented) >= 12 and presented[:4].isascii() else ""  # noqa: PLR2004
    return (shown if shown.isprintable() else "") + "***"


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits
