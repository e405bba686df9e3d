"""The client of a request: its address, and whether it is on this host.

The last entry of ``X-Forwarded-For`` is believed where the peer is a proxy of ours: at a Unix
socket, or at an address that ``FORWARDED_ALLOW_IPS`` names. Earlier entries are written by the
caller.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

_HEADER = "HTTP_X_FORWARDED_FOR"
#: The address of a peer at a Unix socket; gunicorn gives the name of one that has bound a name.
_UNIX_SOCKET = ""
#: That of a peer of which the server tells nothing.
_UNKNOWN = "unknown"
#: How much of the header may be an address: with spaces around it, one of IPv6 has 45 characters.
_LONGEST = 64


def client_address(environ: Mapping[str, Any], proxies: tuple[str, ...]) -> str | None:
    """Return the address of the client, None if it has none or a proxy named none.

    It has digits, letters, dots and colons alone.
    """
    forwarded = environ.get(_HEADER)
    if forwarded is not None:
        forwarded = forwarded[-_LONGEST:]
    return _client(environ.get("REMOTE_ADDR", _UNKNOWN), forwarded, proxies)


def is_local(environ: Mapping[str, Any]) -> bool:
    """Tell whether the client is on this host, and asks without a proxy."""
    if _HEADER in environ:
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
    """Return the address in `text`, None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])  # behind it is the zone: any characters
    except ValueError:
        return None
    # A socket for both versions has IPv4 addresses in IPv6's form.
    return getattr(address, "ipv4_mapped", None) or address
